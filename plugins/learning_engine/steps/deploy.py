"""The serving half of the road as plain functions: may it go live, deploy, verify, roll back; and the upkeep.

Knows no Airflow. `deploy` leaves the pointer alone; only `verify` moves it, after every replica has proven itself.
"""

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from learning_engine import telemetry
from learning_engine.errors import IntegrityError, RegistryError
from learning_engine.records.contracts import AdapterVersion, Deployment, RunInfo
from learning_engine.registry import manifest, upkeep
from learning_engine.serving import rollout
from learning_engine.serving.client import Replica
from learning_engine.steps import placement
from learning_engine.steps.resources import Resources


@dataclass(frozen=True)
class Decision:
    """Whether a version may go live by itself, and why in one sentence."""

    deploy: bool
    why: str


def may_deploy(resources: Resources, version: AdapterVersion, *, force: bool) -> Decision:
    """Only an accepted descendant of the live version with a later window goes live by itself, or one that would be,
    could the live version's archive be read."""
    if resources.settings.deploy == "never":
        return Decision(False, "deploy is set to never: deploy it by hand when you want it")
    line = [ancestor.version for ancestor in resources.registry.lineage(version.version)]
    if gone := [name for name in line if resources.registry.revoked(name)]:
        return Decision(False, f"it is, or continues, {gone[0]}, which a rollback revoked")
    if not version.accepted and not force:
        failed = ", ".join(rule.name for rule in version.report.rules if not rule.passed)
        return Decision(False, f"the gate rejected it: {failed}")
    live = resources.ledger.current()
    if live is None or live.version is None:
        return Decision(True, "nothing is live yet")
    if live.version == version.version:
        return Decision(False, f"{version.version} is live already")
    if live.version in version.dataset.passed_over:
        return Decision(True, f"it takes the place of the live version {live.version}, whose archive cannot be read")
    if live.version not in line:
        return Decision(False, f"it does not descend from the live version {live.version}; deploy it by hand")
    return Decision(True, f"it continues the live version {live.version}")


def choose(resources: Resources, *, action: str, version: str | None) -> AdapterVersion:
    """The version that a person means: the named one, or of a rollback the one that was live before.

    A rollback that names a version leaves that one: raises RegistryError where another is live by now.
    """
    if action == "deploy":
        if not version:
            raise RegistryError("Expected the param version, such as v1.3, found none: name the version to deploy.")
        return resources.registry.get(version)
    live = resources.ledger.newest()
    if version and (live is None or live.version != version):
        found = live.version if live and live.version else "the base model"
        raise RegistryError(
            f"Expected {version}, which the rollback is to leave, to be live, found {found}: look at what a rollback "
            "would leave now, and ask for that."
        )
    target = resources.ledger.rollback_target()
    if target is None:
        raise RegistryError("Expected an earlier deployment to roll back to, found none in the ledger.")
    return resources.registry.get(target)


def deploy(
    resources: Resources,
    version: AdapterVersion,
    *,
    run: RunInfo,
    decided_by: str,
    action: Literal["deploy", "rollback"] = "deploy",
    by_hand: bool = False,
    force: bool = False,
) -> Deployment:
    """Place, preflight, load and probe on every replica; raises where one does not prove itself. Moves no pointer."""
    live = resources.ledger.current()
    again = live is not None and live.version == version.version
    if not (by_hand or again) and not (decision := may_deploy(resources, version, force=force)).deploy:
        raise RegistryError(f"{version.version} may not go live by itself any more: {decision.why}")
    name = placement.server_name(resources, version)
    with telemetry.step("deploy", version=version.version, adapter=name) as result:
        path = placement.place(resources, version, name)
        probes = placement.probes(resources, version)
        proofs = rollout.swap(placement.replicas(resources), name, path, probes)
        before = _before(live, version.version)
        result.update(replicas=len(proofs), probes=len(probes))
        return Deployment(
            version=version.version,
            adapter_name=name,
            previous=before[0],
            previous_adapter_name=before[1],
            replicas=proofs,
            proven=bool(probes),
            action=action,
            decided_by=decided_by,
            run=run,
            at=datetime.now(UTC),
        )


def verify(resources: Resources, deployment: Deployment) -> Deployment:
    """Every replica proves itself once more, one that restarted since `deploy` after it has loaded the adapter again;
    then ledger, pointer, revocation, drain and unload."""
    version = resources.registry.get(str(deployment.version))
    with telemetry.step("verify", version=version.version) as result:
        probes = placement.probes(resources, version)
        replicas = placement.replicas(resources)
        _still_next(resources, deployment)
        path = placement.place(resources, version, deployment.adapter_name)
        rollout.swap(replicas, deployment.adapter_name, path, probes)
        recorded = resources.ledger.record(dataclasses.replace(deployment, at=datetime.now(UTC)))
        if recorded.action == "rollback" and recorded.previous:
            _revoke_left(resources, recorded, recorded.previous)
        if not version.accepted:
            # The next weeks continue what is live.
            resources.registry.vouch(version.version, by=recorded.decided_by, reason="put live against the gate")
        result.update(unloaded=_retire(resources, recorded, replicas))
        return recorded


def sweep(resources: Resources, *, dry_run: bool) -> dict[str, Any]:
    """Retention; returns what went, by kind."""
    with telemetry.step("sweep", dry_run=dry_run) as result:
        swept = upkeep.sweep(
            resources.store,
            resources.registry,
            resources.ledger,
            resources.settings.retention,
            now=datetime.now(UTC),
            dry_run=dry_run,
        )
        result.update(dataclasses.asdict(swept))
        return dataclasses.asdict(swept)


def audit(resources: Resources) -> dict[str, Any]:
    """Read the ledger and every object again. Raises IntegrityError naming each that is missing or altered."""
    with telemetry.step("audit") as result:
        findings = upkeep.audit(resources.store, resources.registry)
        result.update(findings=[str(finding) for finding in findings])
        if findings:
            raise IntegrityError(
                f"Expected the ledger and every object of every version to be whole, found {len(findings)} that are "
                "not: " + "; ".join(str(finding) for finding in findings)
            )
        return {"versions": len(resources.registry.versions()), "findings": []}


def _still_next(resources: Resources, deployment: Deployment) -> None:
    """Raise RegistryError where another deployment came between this one's `deploy` and its `verify`."""
    live = resources.ledger.current()
    found = live.version if live else None
    if found not in (deployment.previous, deployment.version):
        raise RegistryError(
            f"Expected {deployment.previous or 'nothing'} to be live, as when {deployment.version} was loaded, found "
            f"{found}: another deployment came between; clear this run from deploy if it is still wanted."
        )


def _revoke_left(resources: Resources, recorded: Deployment, left: str) -> None:
    """Revoke what a rollback leaves, unless the version that it returns to continues it and has its lessons in it."""
    if left not in [ancestor.version for ancestor in resources.registry.lineage(recorded.version)]:
        resources.registry.revoke(left, by=recorded.decided_by, reason=f"rolled back to {recorded.version}")


def _before(live: Deployment | None, version: str) -> tuple[str | None, str | None]:
    """The version that this one replaces, and its adapter's name; deploying the live one again replaces nothing."""
    if live is None:
        return None, None
    if live.version == version:
        return live.previous, live.previous_adapter_name
    return live.version, live.adapter_name


def _retire(resources: Resources, recorded: Deployment, replicas: list[Replica]) -> list[str]:
    """Unload and remove what is older than the previous version, once nobody can be using it any more."""
    ours = {placement.server_name(resources, version) for version in resources.registry.versions()}
    keep = {name for name in (recorded.adapter_name, recorded.previous_adapter_name) if name}
    unloaded = rollout.retire(replicas, keep, ours.__contains__, drain_seconds=_drain_seconds(resources, keep))
    rollout.forget(resources.serving.adapter_dir, keep, ours.__contains__)
    return sorted({name for _, name in unloaded})


def _drain_seconds(resources: Resources, keep: set[str]) -> float:
    """How long the last request to an adapter that has left the pointer may still run: at most
    `serving.drain_seconds`, whatever clock the ledger's times are from."""
    entries, unreadable = resources.ledger.history()
    left_at = [entry.at for entry in entries if entry.previous_adapter_name not in keep | {None}]
    # What left the pointer then, nobody can tell.
    left_at += [manifest.ledger_time(key) for key in unreadable]
    if not left_at:
        return 0.0
    gone, drain = (datetime.now(UTC) - max(left_at)).total_seconds(), resources.settings.serving.drain_seconds
    return min(drain, max(0.0, drain - gone))
