"""The serving half of the road as plain functions: may it go live, deploy, verify, roll back; and the upkeep.

Knows no Airflow. `deploy` leaves the pointer alone; only `verify` moves it, after every replica has proven itself.
"""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from learning_engine import telemetry
from learning_engine.errors import Overtaken, RegistryError
from learning_engine.records.contracts import AdapterVersion, Deployment, RunInfo
from learning_engine.registry import manifest
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
    if gone := revoked_of(resources, version.version):
        return Decision(False, _of_revoked(version.version, gone))
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
    if live.version in [ancestor.version for ancestor in resources.registry.lineage(version.version)]:
        return Decision(True, f"it continues the live version {live.version}")
    if gone := revoked_of(resources, live.version):
        why = f"the live version {_of_revoked(live.version, gone)}, and no week continues that"
        return Decision(False, f"{why}: deploy {version.version} by hand, and later weeks follow it by themselves")
    return Decision(False, f"it does not descend from the live version {live.version}; deploy it by hand")


def revoked_of(resources: Resources, version: str) -> list[str]:
    """Which of a version and its ancestors are revoked, the youngest first."""
    line = resources.registry.lineage(version)
    return [one.version for one in line if resources.registry.revoked(one.version)]


def choose(resources: Resources, *, action: str, version: str | None) -> AdapterVersion:
    """The version that a person means: the named one, or of a rollback the one that was live before.

    A rollback that names a version leaves that one: raises Overtaken where another is live by now.
    """
    if action == "deploy":
        if not version:
            raise RegistryError("Expected the param version, such as v1.3, found none: name the version to deploy.")
        return resources.registry.get(version)
    live = resources.ledger.newest()
    if version and (live is None or live.version != version):
        raise Overtaken(
            f"Expected {version}, which the rollback is to leave, to be live, found {_name(live)}: look at what a "
            "rollback would leave now, and ask for that."
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
    despite: Collection[str] = (),
) -> Deployment:
    """Place, preflight, load and probe on every replica; raises where one does not prove itself. Moves no pointer.
    `despite` names the revoked of the version and its ancestors that a person knew of and chose all the same."""
    live = resources.ledger.current()
    again = live is not None and live.version == version.version
    if not (by_hand or again) and not (decision := may_deploy(resources, version, force=force)).deploy:
        raise RegistryError(f"{version.version} may not go live by itself any more: {decision.why}")
    _refuse_revoked(resources, version.version, despite)
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
            follows=live.at if live else None,
            despite=list(despite),
        )


def verify(resources: Resources, deployment: Deployment) -> Deployment:
    """Every replica proves itself once more, one that restarted since `deploy` after it has loaded the adapter again;
    then ledger, pointer, revocation, drain and unload. Raises RegistryError where other decisions came first."""
    version = resources.registry.get(str(deployment.version))
    with telemetry.step("verify", version=version.version) as result:
        _still_wanted(resources, deployment, version)
        probes = placement.probes(resources, version)
        replicas = placement.replicas(resources)
        path = placement.place(resources, version, deployment.adapter_name)
        rollout.swap(replicas, deployment.adapter_name, path, probes)
        recorded = resources.ledger.record(dataclasses.replace(deployment, at=datetime.now(UTC)))
        _settle(resources, recorded, version)
        result.update(unloaded=_retire(resources, recorded, replicas))
        return recorded


def _of_revoked(version: str, gone: list[str]) -> str:
    return f"{version} {'' if gone[0] == version else f'continues {gone[0]}, which '}was revoked"


def _still_wanted(resources: Resources, deployment: Deployment, version: AdapterVersion) -> None:
    """Raise RegistryError where it may not go live, or stay so, because of what has happened since `deploy`."""
    live, made = resources.ledger.current(), resources.ledger.recorded(deployment)
    if made is None:
        _still_next(deployment, live)
        _refuse_revoked(resources, version.version, deployment.despite)
    elif made != live:
        # This try may be the one after a worker that died in between.
        _settle(resources, made, version)
        raise Overtaken(
            f"Expected {made.version}, which this run put live at {made.at:%Y-%m-%d %H:%M} UTC, to be live, found "
            f"{_name(live)}: a later decision stands; deploy {made.version} by hand if it is wanted again."
        )


def _still_next(deployment: Deployment, live: Deployment | None) -> None:
    """Raise Overtaken where another deployment came between this one's `deploy` and its `verify`."""
    # The first one of all has no time to compare, nor has one of before there was the field.
    same_version = (live.version if live else None) in (deployment.previous, deployment.version)
    if not (live.at == deployment.follows if live and deployment.follows else same_version):
        raise Overtaken(
            f"Expected {deployment.previous or 'nothing'} to be live, as when {deployment.version} was loaded, found "
            f"{_name(live)}: another deployment came between; start this one anew if it is still wanted."
        )


def _refuse_revoked(resources: Resources, version: str, despite: Collection[str]) -> None:
    """Raise RegistryError where more is revoked of a version and its ancestors than was known when it was chosen."""
    if gone := [name for name in revoked_of(resources, version) if name not in despite]:
        raise RegistryError(
            f"Expected neither {version} nor what it continues to be revoked, found {', '.join(gone)} revoked: "
            "start a new deployment by hand if it is wanted all the same."
        )


def _settle(resources: Resources, recorded: Deployment, version: AdapterVersion) -> None:
    """What a decision means for later weeks; safe to repeat."""
    if recorded.action == "rollback" and recorded.previous:
        _revoke_left(resources, recorded, recorded.previous)
    if not version.accepted:
        # The next weeks continue what is live.
        resources.registry.vouch(version.version, by=recorded.decided_by, reason="put live against the gate")


def _revoke_left(resources: Resources, recorded: Deployment, left: str) -> None:
    """Revoke what a rollback leaves, unless the version that it returns to continues it and has its lessons in it."""
    if left not in [ancestor.version for ancestor in resources.registry.lineage(recorded.version)]:
        resources.registry.revoke(left, by=recorded.decided_by, reason=f"rolled back to {recorded.version}")


def _name(live: Deployment | None) -> str:
    return live.version if live and live.version else "the base model"


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
