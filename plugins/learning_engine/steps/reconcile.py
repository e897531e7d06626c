"""Give every replica back what it should serve: the live adapter, and the one that a rollback returns to.

A model server keeps its adapters in memory: one that restarts has lost them, says so to nobody, and answers requests
for the live name with errors. Called every few minutes by the reconcile DAG, in the registry's pool, so that nothing is
deployed meanwhile. The pointer is never moved here. Knows no Airflow.
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

# A version without probes is "loaded" where a replica lists it: nothing tells whether it has these weights.
PROVEN, LOADED, RESTORED = "proven", "loaded", "restored"


def reconcile(resources: Resources) -> dict[str, Any]:
    """Prove the live adapter on every replica, load it where it is missing; then the one before it likewise.

    Returns the live version and what was found of each replica: "proven", "loaded" or "restored". Each replica is
    seen to, whatever the others do; then the first error of those that do not serve the live version is raised.
    """
    live = resources.ledger.current()
    if live is None or live.version is None:
        return {"live": None, "replicas": {}}
    with telemetry.step("reconcile", live=live.version) as result:
        failures: list[LearningEngineError] = []
        found = {str(replica): _mend(resources, replica, live, failures) for replica in placement.replicas(resources)}
        result.update(replicas=found)
        if failures:
            raise failures[0]
        return {"live": live.version, "replicas": found}


def _mend(resources: Resources, replica: Replica, live: Deployment, failures: list[LearningEngineError]) -> str:
    """What became of one replica; a failure of the live adapter is put into `failures`."""
    try:
        state = _serve(resources, replica, str(live.version), live.adapter_name)
    except LearningEngineError as error:
        telemetry.warning("reconcile.failed", replica=str(replica), adapter=live.adapter_name, message=str(error))
        failures.append(error)
        return f"failed: {type(error).__name__}"
    if live.previous is not None and live.previous_adapter_name is not None:
        try:
            _serve(resources, replica, live.previous, live.previous_adapter_name)
        except LearningEngineError as error:
            # Nobody asks for it now, and a rollback would load and prove it first.
            telemetry.warning("reconcile.no_way_back", replica=str(replica), version=live.previous, message=str(error))
    return state


def _serve(resources: Resources, replica: Replica, number: str, name: str) -> str:
    """Raises ServingError, or what placing raises, where `replica` cannot be made to serve the version as `name`."""
    version, listed = resources.registry.get(number), replica.models()
    probes = placement.probes(resources, version)
    if listed.count(name) > 1:
        telemetry.warning("serving.phantom", replica=str(replica), adapter=name, message="loaded twice: restart it")
    if name in listed:
        return PROVEN if rollout.prove(replica, name, probes) else LOADED
    replica.load(name, _directory(resources, version, name))
    try:
        rollout.prove(replica, name, probes)
    except ServingError as error:
        if not isinstance(error, NoAnswer):
            replica.unload(name)
        raise
    telemetry.warning("serving.restored", replica=str(replica), adapter=name, probes=len(probes))
    return RESTORED


def _directory(resources: Resources, version: AdapterVersion, name: str) -> str:
    """The placed adapter as the server sees it, written again where it is gone.

    Where the bucket's archive is lost, what was placed from it stands: it appeared whole, and preflight sees it again.
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
