"""The task `reconcile`: restore the live adapter and the rollback target on every replica.

A model server keeps its adapters in memory. After a restart they are gone, and it answers requests for the live name
with errors. The reconcile DAG runs this task every few minutes in the registry pool, so that no
deployment runs at the same time. It never moves the pointer.
"""

from pathlib import Path
from typing import Any

from learning_engine import telemetry
from learning_engine.errors import IntegrityError, LearningEngineError, ServingError
from learning_engine.records.contracts import AdapterVersion, Deployment
from learning_engine.registry.store import NotFound
from learning_engine.serving import rollout
from learning_engine.serving.client import NoAnswer, Replica
from learning_engine.steps import placement
from learning_engine.steps.resources import Resources

# A listed version without probes is only "loaded": nothing shows whether the replica has the right weights.
PROVEN, LOADED, RESTORED = "proven", "loaded", "restored"


def reconcile(resources: Resources) -> dict[str, Any]:
    """Probe the live adapter on every replica and load it if it is missing; then do the same for the previous one.

    Returns the live version and the state of each replica: "proven", "loaded" or "restored". Handles every replica
    even if others fail, then raises the first error about the live version.
    """
    live = resources.ledger.current()
    if live is None or live.version is None:
        return {"live": None, "replicas": {}}
    with telemetry.step("reconcile", live=live.version) as result:
        failures: list[LearningEngineError] = []
        found = {
            str(replica): _reconcile_replica(resources, replica, live, failures)
            for replica in placement.replicas(resources)
        }
        result.update(replicas=found)
        if failures:
            raise failures[0]
        return {"live": live.version, "replicas": found}


def _reconcile_replica(
    resources: Resources, replica: Replica, live: Deployment, failures: list[LearningEngineError]
) -> str:
    """Reconcile one replica and return its state; a failure of the live adapter is appended to `failures`."""
    try:
        state = _ensure_served(resources, replica, str(live.version), live.adapter_name)
    except LearningEngineError as error:
        telemetry.warning("reconcile.failed", replica=str(replica), adapter=live.adapter_name, message=str(error))
        failures.append(error)
        return f"failed: {type(error).__name__}"
    if live.previous is not None and live.previous_adapter_name is not None:
        try:
            _ensure_served(resources, replica, live.previous, live.previous_adapter_name)
        except LearningEngineError as error:
            # Not a failure: no client uses it now, and a rollback would load and prove it first.
            telemetry.warning("reconcile.no_way_back", replica=str(replica), version=live.previous, message=str(error))
    return state


def _ensure_served(resources: Resources, replica: Replica, number: str, name: str) -> str:
    """Make `replica` serve the version as `name` and return the state. Raises ServingError, or what `place` raises."""
    version, listed = resources.registry.get(number), replica.models()
    probes = placement.probes(resources, version)
    if listed.count(name) > 1:
        telemetry.warning("serving.phantom", replica=str(replica), adapter=name, message="loaded twice: restart it")
    if name in listed:
        return PROVEN if rollout.prove(replica, name, probes) else LOADED
    replica.load(name, _placed_directory(resources, version, name))
    try:
        rollout.prove(replica, name, probes)
    except ServingError as error:
        if not isinstance(error, NoAnswer):
            replica.unload(name)
        raise
    telemetry.warning("serving.restored", replica=str(replica), adapter=name, probes=len(probes))
    return RESTORED


def _placed_directory(resources: Resources, version: AdapterVersion, name: str) -> str:
    """The adapter's directory as the server sees it, written again if it is missing.

    If the archive in the bucket is missing or corrupt, an existing directory is used after another preflight check:
    it was written atomically from the intact archive.
    """
    try:
        return placement.place(resources, version, name)
    except (NotFound, IntegrityError) as error:
        placed: Path = resources.serving.adapter_dir / name
        if not placed.is_dir():
            raise
        telemetry.warning("reconcile.archive_lost", version=version.version, message=str(error))
        placement.preflight_of(resources, version)(placed)
        return placement.server_path(resources, name)
