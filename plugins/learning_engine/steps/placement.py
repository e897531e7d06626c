"""Place a version on the model server's disk, with its names, probes and preflight check."""

from collections.abc import Callable
from pathlib import Path

from learning_engine import telemetry
from learning_engine.records import probe
from learning_engine.records.contracts import AdapterVersion
from learning_engine.registry import manifest
from learning_engine.registry.store import NotFound
from learning_engine.serving import adapter_check, rollout
from learning_engine.serving.client import Replica
from learning_engine.steps import disk
from learning_engine.steps.resources import Resources, workspace


def replicas(resources: Resources) -> list[Replica]:
    return [Replica(url, resources.settings.serving) for url in resources.serving.replicas]


def server_name(resources: Resources, version: AdapterVersion) -> str:
    """The name under which a model server should load `version`. The ledger records the name actually used."""
    return manifest.server_name(version.version, version.sha256, resources.settings.serving.adapter_prefix)


def server_path(resources: Resources, name: str) -> str:
    """The directory of the adapter `name` as the model server sees it."""
    return f"{resources.serving.server_adapter_dir.rstrip('/')}/{name}"


def place(resources: Resources, version: AdapterVersion, name: str) -> str:
    """Download, check and write the adapter of `version` as `name`; returns its directory as the model server sees it.

    Raises IntegrityError, PreflightError, NoRoom or StoreError before the server sees any file.
    """
    settings = resources.settings.serving
    # Weights hardly compress, so twice the archive's size is enough.
    disk.require(resources.serving.adapter_dir, 2 * version.size, what=f"{name} on the model server's disk")
    with workspace() as work:
        packed = work / "adapter.tar.gz"
        resources.store.get_file(resources.store.key(version.uri), packed, version.sha256)
        rollout.place(
            packed,
            version.sha256,
            name=name,
            adapter_dir=resources.serving.adapter_dir,
            check=preflight_of(resources, version),
            max_bytes=settings.max_adapter_bytes,
        )
    return server_path(resources, name)


def probes(resources: Resources, version: AdapterVersion) -> list[probe.Probe]:
    """The probes of `version`; empty if it has none, or if retention has deleted them."""
    found = version.report.probes
    if found is None:
        return []
    try:
        data = resources.store.get_bytes(resources.store.key(found.uri), sha256=found.sha256)
    except NotFound:
        telemetry.event("deploy.unproven", version=version.version, reason="its probes are past retention.text_days")
        return []
    return probe.load(data)


def preflight_of(resources: Resources, version: AdapterVersion) -> Callable[[Path], None]:
    """The check that an adapter of `version` must pass before a server sees it."""
    # If this worker has the base model, shapes are checked against it and not only against each other.
    described = Path(version.base_model) / "config.json"

    def check(directory: Path) -> None:
        adapter_check.check(
            directory,
            base_model=version.base_model,
            base_revision=version.base_revision,
            lora=version.lora,
            max_lora_rank=resources.settings.serving.max_lora_rank,
            base_config=described if described.is_file() else None,
        )

    return check
