"""Published versions with servable weights, deployed through a proxy that counts the calls."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from learning_engine import archive
from learning_engine.config import sections
from learning_engine.records import probe
from learning_engine.records.contracts import AdapterVersion, Deployment, LoraShape, RunInfo
from learning_engine.records.probe import Probe
from learning_engine.records.report import Probes
from learning_engine.registry import manifest
from learning_engine.registry.registry import Registry
from learning_engine.registry.store import Store
from learning_engine.serving import rollout
from learning_engine.serving.client import Replica
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps.resources import Resources
from tests import tiny
from tests.faults.proxy import Exchange, Fault, Proxy, passes
from tests.registry import work
from tests.serving import truth
from tests.serving.conftest import ModelServer

SHAPE = LoraShape(rank=16, alpha=32.0, target_modules=tiny.TARGETS)
LIMITS = sections.Serving(
    connect_timeout_seconds=5, request_timeout_seconds=30, load_timeout_seconds=30, drain_seconds=0
)
HURRIED = LIMITS.model_copy(update={"request_timeout_seconds": 2.0, "load_timeout_seconds": 2.0})


class Chain:
    """Adapters of `base` below `directory`, with their probes; `publish` publishes them as versions."""

    def __init__(self, base: Path, directory: Path, *, versions: int, probes: int) -> None:
        self.base = base
        self.packed: list[Path] = []
        self.probes: list[list[Probe]] = []
        for number in range(versions):
            adapter = tiny.make_adapter(base, directory / str(number), seed=number + 1)
            self.probes.append(truth.probes(base, adapter)[:probes])
            self.packed.append(directory / f"{number}.tar.gz")
            archive.pack(adapter, self.packed[-1])

    def publish(self, store: Store) -> list[AdapterVersion]:
        """One version per week, each the parent of the next."""
        registry, made = Registry(store, settle_seconds=0), list[AdapterVersion]()
        for number, (packed, probes) in enumerate(zip(self.packed, self.probes, strict=True)):
            made.append(self._publish(store, registry, number, packed, probes, made[-1].version if made else None))
        return made

    def _publish(
        self, store: Store, registry: Registry, number: int, packed: Path, probes: list[Probe], parent: str | None
    ) -> AdapterVersion:
        key = f"run{number}"
        changes: dict[str, Any] = {"base_model": str(self.base), "base_revision": "", "lora": SHAPE}
        staged = work.stage(store, key, work.week(number), parent, **changes)
        archive_key, probes_key = manifest.run_key(key, "adapter.tar.gz"), manifest.run_key(key, "probes.json")
        sha256 = store.put_file(archive_key, packed)
        proof = Probes(store.uri(probes_key), store.put_bytes(probes_key, probe.dump(probes)), len(probes), 1.0)
        report = replace(staged.draft.report, probes=proof)
        draft = replace(staged.draft, sha256=sha256, size=packed.stat().st_size, report=report)
        return replace(staged, draft=draft).publish(registry)


@dataclass
class Served:
    """Three versions on a server behind a proxy that counts calls; the first two are loaded, the second is live."""

    resources: Resources
    versions: list[AdapterVersion]
    chain: Chain
    proxy: Proxy
    server: ModelServer
    calls: list[tuple[str, str]] = field(default_factory=list)

    @property
    def replica(self) -> Replica:
        """The server itself, not the proxy."""
        return Replica(self.server.url, LIMITS)

    def name(self, number: int) -> str:
        return manifest.server_name(self.versions[number].version, self.versions[number].sha256)

    def deploy(self, number: int, **how: Any) -> Deployment:
        """Run the tasks deploy and verify, in one run per version."""
        run = RunInfo("learning_engine_weekly", f"run {number}", "manual")
        made = deploy_step.deploy(self.resources, self.versions[number], run=run, decided_by="the gate", **how)
        return deploy_step.verify(self.resources, made)

    @contextmanager
    def under(self, fault: Fault, *, at: int) -> Iterator[None]:
        """Apply the fault to the call with index `at`, counted from here."""
        self.calls.clear()

        def meet(exchange: Exchange) -> None:
            self.calls.append((exchange.command, exchange.key))
            (fault if len(self.calls) == at + 1 else passes)(exchange)

        with self.proxy.under(meet):
            yield

    def limit(self, serving: sections.Serving) -> None:
        """Use these settings for later deployments."""
        settings = self.resources.settings.model_copy(update={"serving": serving})
        self.resources = replace(self.resources, settings=settings)

    def restarted(self, server: ModelServer) -> None:
        """Put another server behind the same address."""
        self.proxy._stop()
        self.server, self.proxy = server, Proxy(urlsplit(server.url).netloc, port=self.proxy.port)
        self.proxy._start()

    def live(self) -> tuple[int, Deployment | None]:
        """The number of decisions, and the last one."""
        return len(self.resources.ledger.entries()), self.resources.ledger.current()

    def proven(self, number: int) -> bool:
        """Assert that the server lists a version once; return whether it answers with its weights."""
        assert self.replica.models().count(self.name(number)) == 1
        return rollout.prove(self.replica, self.name(number), self.chain.probes[number]) == 2
