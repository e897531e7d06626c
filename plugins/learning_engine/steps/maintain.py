"""The tasks `sweep` and `audit`: apply retention, and check the digest of every object."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

from learning_engine import telemetry
from learning_engine.errors import IntegrityError
from learning_engine.registry import audit as audits
from learning_engine.registry import retention
from learning_engine.steps.resources import Resources


def sweep(resources: Resources, *, dry_run: bool) -> dict[str, Any]:
    """Delete what retention allows; returns the deleted objects by kind."""
    with telemetry.step("sweep", dry_run=dry_run) as result:
        swept = retention.sweep(
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
    """Read the ledger and every object. Raises IntegrityError naming each one that is missing or corrupt."""
    with telemetry.step("audit") as result:
        findings = audits.audit(resources.store, resources.registry)
        result.update(findings=[str(finding) for finding in findings])
        if findings:
            raise IntegrityError(
                f"Expected the ledger and every object of every version to be intact, found {len(findings)} that are "
                "not: " + "; ".join(str(finding) for finding in findings)
            )
        return {"versions": len(resources.registry.versions()), "findings": []}
