"""The tasks `choose`, `deploy` and `verify`: choose a version, load it on every replica, record the deployment.

`deploy` does not move the pointer. Only `verify` does, after every replica has proven that it serves the version.
"""

import dataclasses
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Literal

from learning_engine import telemetry
from learning_engine.errors import Overtaken, RegistryError
from learning_engine.records.contracts import AdapterVersion, Deployment, RunInfo
from learning_engine.registry import manifest
from learning_engine.serving import rollout
from learning_engine.serving.client import Replica
from learning_engine.steps import accepted, placement
from learning_engine.steps.resources import Resources


def choose(resources: Resources, *, action: str, version: str | None) -> AdapterVersion:
    """The version to deploy: the named one, or for a rollback the previously live version.

    A rollback may name the version that it replaces. Raises Overtaken if another version is live.
    """
    if action == "deploy":
        if not version:
            raise RegistryError("Expected the param version, such as v1.3, found none: name the version to deploy.")
        return resources.registry.get(version)
    live = resources.ledger.newest()
    if version and (live is None or live.version != version):
        raise Overtaken(
            f"Expected {version}, which the rollback replaces, to be live, found {_live_name(live)}: check which "
            "version is live now, and roll back from that one if it is still wanted."
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
    """Place, preflight, load and probe `version` on every replica; raises if one fails. Does not move the pointer.

    `despite` lists the revoked versions among this one and its ancestors that a person accepted when choosing it.
    """
    live = resources.ledger.current()
    is_live = live is not None and live.version == version.version
    if not (by_hand or is_live) and not (decision := accepted.may_deploy(resources, version, force=force)).deploy:
        raise RegistryError(f"{version.version} may no longer be deployed automatically: {decision.why}")
    _require_no_new_revocation(resources, version.version, despite)
    name = placement.server_name(resources, version)
    with telemetry.step("deploy", version=version.version, adapter=name) as result:
        path = placement.place(resources, version, name)
        probes = placement.probes(resources, version)
        proofs = rollout.swap(placement.replicas(resources), name, path, probes)
        before = _replaced_by(version.version, live)
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
    """Probe every replica again, then record the deployment: ledger, pointer, revocation, drain and unload.

    A replica that restarted since `deploy` loads the adapter again first. Raises RegistryError if a later decision
    overrides this one.
    """
    version = resources.registry.get(str(deployment.version))
    with telemetry.step("verify", version=version.version) as result:
        _require_still_valid(resources, deployment, version)
        probes = placement.probes(resources, version)
        replicas = placement.replicas(resources)
        path = placement.place(resources, version, deployment.adapter_name)
        rollout.swap(replicas, deployment.adapter_name, path, probes)
        recorded = resources.ledger.record(dataclasses.replace(deployment, at=datetime.now(UTC)))
        _update_registry(resources, recorded, version)
        result.update(unloaded=_unload_old(resources, recorded, replicas))
        return recorded


def _require_still_valid(resources: Resources, deployment: Deployment, version: AdapterVersion) -> None:
    """Raise RegistryError if events since `deploy` mean that the version must not become or stay live."""
    live, made = resources.ledger.current(), resources.ledger.recorded(deployment)
    if made is None:
        _require_no_deployment_since(deployment, live)
        _require_no_new_revocation(resources, version.version, deployment.despite)
    elif made != live:
        # An earlier attempt may have died after it wrote the ledger entry: finish its registry updates.
        _update_registry(resources, made, version)
        raise Overtaken(
            f"Expected {made.version}, which this run deployed at {made.at:%Y-%m-%d %H:%M} UTC, to be live, found "
            f"{_live_name(live)}: a later decision replaced it; deploy {made.version} by hand if you want it again."
        )


def _require_no_deployment_since(deployment: Deployment, live: Deployment | None) -> None:
    """Raise Overtaken if another deployment was recorded between this one's `deploy` and its `verify`."""
    # The very first deployment has no `follows` to compare, nor have records older than that field.
    same_version = (live.version if live else None) in (deployment.previous, deployment.version)
    if not (live.at == deployment.follows if live and deployment.follows else same_version):
        raise Overtaken(
            f"Expected {deployment.previous or 'nothing'} to be live, as when {deployment.version} was loaded, found "
            f"{_live_name(live)}: another deployment happened meanwhile; start this one again if you still want it."
        )


def _require_no_new_revocation(resources: Resources, version: str, despite: Collection[str]) -> None:
    """Raise RegistryError if the version or an ancestor is revoked, except those in `despite`."""
    if revoked := [name for name in accepted.revoked_of(resources, version) if name not in despite]:
        raise RegistryError(
            f"Expected neither {version} nor any of its ancestors to be revoked, found {', '.join(revoked)} revoked: "
            "start a new deployment by hand if you still want it."
        )


def _update_registry(resources: Resources, recorded: Deployment, version: AdapterVersion) -> None:
    """Revoke the version that a rollback replaced, and vouch for one that the gate rejected. Idempotent."""
    if recorded.action == "rollback" and recorded.previous:
        _revoke_replaced(resources, recorded, recorded.previous)
    if not version.accepted:
        # Later versions continue the live one.
        resources.registry.vouch(version.version, by=recorded.decided_by, reason="deployed against the gate's verdict")


def _revoke_replaced(resources: Resources, recorded: Deployment, replaced: str) -> None:
    """Revoke the version that a rollback replaced, unless it is live again or an ancestor of the target.

    It may be live again if the attempt that recorded the rollback died before this, and a person deployed it since.
    """
    live = resources.ledger.newest()
    kept = [live.version if live else None, *accepted.readable_lineage(resources, recorded.version)]
    if replaced not in kept:
        resources.registry.revoke(replaced, by=recorded.decided_by, reason=f"rolled back to {recorded.version}")


def _live_name(live: Deployment | None) -> str:
    return live.version if live and live.version else "the base model"


def _replaced_by(version: str, live: Deployment | None) -> tuple[str | None, str | None]:
    """The version that `version` replaces, and its adapter's name. Redeploying the live version replaces nothing."""
    if live is None:
        return None, None
    if live.version == version:
        return live.previous, live.previous_adapter_name
    return live.version, live.adapter_name


def _unload_old(resources: Resources, recorded: Deployment, replicas: list[Replica]) -> list[str]:
    """Unload and delete adapters older than the previous version, after the drain. Returns the unloaded names."""
    ours = {placement.server_name(resources, version) for version in resources.registry.versions()}
    keep = {name for name in (recorded.adapter_name, recorded.previous_adapter_name) if name}
    unloaded = rollout.retire(replicas, keep, ours.__contains__, drain_seconds=_drain_seconds(resources, keep))
    rollout.remove_obsolete(resources.serving.adapter_dir, keep, ours.__contains__)
    return sorted({name for _, name in unloaded})


def _drain_seconds(resources: Resources, keep: set[str]) -> float:
    """How long requests to adapters that are no longer live may still run: at most `serving.drain_seconds`, even if
    the ledger's times come from a wrong clock."""
    entries, unreadable = resources.ledger.history()
    replaced_at = [entry.at for entry in entries if entry.previous_adapter_name not in keep | {None}]
    # An unreadable entry does not say which adapter it replaced, so assume one that will be unloaded.
    replaced_at += [manifest.ledger_time(key) for key in unreadable]
    if not replaced_at:
        return 0.0
    elapsed, drain = (datetime.now(UTC) - max(replaced_at)).total_seconds(), resources.settings.serving.drain_seconds
    return min(drain, max(0.0, drain - elapsed))
