"""The task `accepted`: may a version be deployed automatically? Also called by `deploy`, which checks again."""

from dataclasses import dataclass

from learning_engine import telemetry
from learning_engine.errors import IntegrityError, RegistryError
from learning_engine.records.contracts import AdapterVersion
from learning_engine.steps.resources import Resources


@dataclass(frozen=True)
class Decision:
    """Whether a version may be deployed automatically, and why, in one sentence."""

    deploy: bool
    why: str


def may_deploy(resources: Resources, version: AdapterVersion, *, force: bool) -> Decision:
    """Decide whether `version` may be deployed automatically.

    It must be accepted (or forced) and descend from the live version. A version that passed over the live one because
    that archive cannot be read counts as a descendant.
    """
    if resources.settings.deploy == "never":
        return Decision(False, "deploy is set to never: deploy it by hand when you want it")
    if revoked := revoked_of(resources, version.version):
        return Decision(False, _revocation_text(version.version, revoked))
    # Raises if an ancestor cannot be read: only a person may deploy then.
    ancestors = [ancestor.version for ancestor in resources.registry.lineage(version.version)]
    if not version.accepted and not force:
        failed = ", ".join(rule.name for rule in version.report.rules if not rule.passed)
        return Decision(False, f"the gate rejected it: {failed}")
    live = resources.ledger.current()
    if live is None or live.version is None:
        return Decision(True, "nothing is live yet")
    if live.version == version.version:
        return Decision(False, f"{version.version} is already live")
    if live.version in version.dataset.passed_over:
        return Decision(True, f"it replaces the live version {live.version}, whose archive cannot be read")
    if live.version in ancestors:
        return Decision(True, f"it continues the live version {live.version}")
    if revoked := revoked_of(resources, live.version):
        why = f"the live version {_revocation_text(live.version, revoked)}, so no later version continues it"
        return Decision(False, f"{why}: deploy {version.version} by hand, then later versions deploy automatically")
    return Decision(False, f"it does not descend from the live version {live.version}; deploy it by hand")


def revoked_of(resources: Resources, version: str) -> list[str]:
    """The revoked versions among a version and its ancestors, newest first.

    Ancestors beyond one whose metadata cannot be read are not checked, so that a person can still roll back.
    """
    return [name for name in readable_lineage(resources, version) if resources.registry.is_revoked(name)]


def _revocation_text(version: str, revoked: list[str]) -> str:
    return f"{version} {'' if revoked[0] == version else f'continues {revoked[0]}, which '}was revoked"


def readable_lineage(resources: Resources, version: str | None) -> list[str]:
    """A version, its parent and so on, up to the first one whose metadata cannot be read."""
    found: list[str] = []
    while version is not None:
        found.append(version)
        try:
            version = resources.registry.get(version).parent
        except (RegistryError, IntegrityError) as error:
            telemetry.warning("deploy.ancestors_unknown", version=found[0], unreadable=version, message=str(error))
            break
    return found
