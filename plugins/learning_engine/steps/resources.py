"""The resources of the steps: settings, store, registry, ledger, feedback and the model server's addresses.

A task gets them from `airflow.connections.connect` and passes them to its step.
"""

import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learning_engine import archive, telemetry
from learning_engine.config import Settings
from learning_engine.errors import IntegrityError
from learning_engine.records.contracts import AdapterVersion, LoraShape, Window
from learning_engine.registry.failures import staged_by_run
from learning_engine.registry.ledger import Ledger
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import NotFound, Store

if TYPE_CHECKING:
    from learning_engine.feedback.snapshot import Counts


@dataclass(frozen=True)
class ServingPlace:
    """The replicas' addresses, and the adapter directory as the deploying worker and as the server see it."""

    replicas: tuple[str, ...]
    adapter_dir: Path
    server_adapter_dir: str


@dataclass(frozen=True)
class Resources:
    """Each resource is opened on first use, so a worker needs only the connections of its own step."""

    settings: Settings
    open_store: Callable[[], Store]
    open_feedback: Callable[[], Any]
    open_serving: Callable[[], ServingPlace]

    @functools.cached_property
    def store(self) -> Store:
        return self.open_store()

    @functools.cached_property
    def registry(self) -> Registry:
        return Registry(self.store)

    @functools.cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.store)

    @functools.cached_property
    def serving(self) -> ServingPlace:
        return self.open_serving()

    @property
    def shape(self) -> LoraShape:
        lora = self.settings.lora
        return LoraShape(rank=lora.rank, alpha=lora.alpha, target_modules=lora.target_modules)


@contextmanager
def workspace() -> Iterator[Path]:
    """A temporary directory for the step, deleted when the step ends."""
    directory = Path(tempfile.mkdtemp(prefix="learning-engine-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def read_window(resources: Resources, window: Window, path: Path, *, quarantine: Path | None = None) -> "Counts":
    """Write the cleaned feedback of `window` to the Parquet file `path`, quarantined rows to `quarantine` if given."""
    from learning_engine.feedback import snapshot, source

    settings = resources.settings
    tokenizer = Path(settings.model.base) / "tokenizer.json"
    return snapshot.write(
        source.read(resources.open_feedback(), window, settings.feedback),
        path,
        feedback=settings.feedback,
        heldout_fraction=settings.dataset.heldout_fraction,
        tokenizer_file=tokenizer if tokenizer.is_file() else None,
        quarantine=quarantine,
    )


def snapshot_of(resources: Resources, version: AdapterVersion, path: Path) -> bool:
    """Write the snapshot that `version` was trained on to `path`; returns whether it came from the bucket.

    If the bucket's copy is missing or corrupt, the window is read from the source again.
    """
    try:
        resources.store.get_file(resources.store.key(version.dataset.uri), path, version.dataset.sha256)
    except (NotFound, IntegrityError) as error:
        telemetry.event("snapshot.missing", version=version.version, message=str(error))
        read_window(resources, version.window, path)
        return False
    return True


def adapter_of(resources: Resources, version: AdapterVersion, work: Path) -> Path:
    """Download the adapter of `version`, check its digest and unpack it into a directory below `work`."""
    packed, directory = work / f"{version.version}.tar.gz", work / version.version
    resources.store.get_file(resources.store.key(version.uri), packed, version.sha256)
    archive.unpack(packed, directory, max_bytes=resources.settings.serving.max_adapter_bytes)
    packed.unlink()
    return directory


def get_staged(resources: Resources, uri: str, path: Path, sha256: str) -> None:
    """Download an object that an earlier step of the run staged, and check its digest."""
    with staged_by_run():
        resources.store.get_file(resources.store.key(uri), path, sha256)
