"""The task `publish`: publish the staged candidate as an immutable version, accepted or rejected."""

from learning_engine import telemetry
from learning_engine.records.contracts import AdapterVersion, Candidate, Dataset, RunInfo
from learning_engine.records.report import Report
from learning_engine.registry import manifest
from learning_engine.registry.registry import Draft
from learning_engine.steps.resources import Resources


def publish(
    resources: Resources, dataset: Dataset, candidate: Candidate, report: Report, *, run: RunInfo
) -> AdapterVersion:
    """Publish the candidate as a version. Publishing the same work again returns the existing version."""
    with telemetry.step("publish", run_key=candidate.run_key) as result:
        version = resources.registry.publish(
            Draft(
                parent=candidate.parent,
                window=candidate.window,
                run_key=candidate.run_key,
                base_model=candidate.base_model,
                base_revision=candidate.base_revision,
                lora=candidate.lora,
                sha256=candidate.sha256,
                size=candidate.size,
                accepted=report.accepted,
                dataset=dataset,
                fisher=candidate.fisher,
                ewc_lambda=candidate.ewc_lambda,
                training=candidate.training,
                report=report,
                config=resources.settings.fingerprint(),
                run=run,
            ),
            archive=candidate.uri,
            heldout=resources.store.uri(manifest.run_key(candidate.run_key, "heldout.parquet")),
            replay=candidate.replay_uri,
        )
        result.update(version=version.version, accepted=version.accepted)
        return version
