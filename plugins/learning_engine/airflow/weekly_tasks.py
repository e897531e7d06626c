"""The tasks of the weekly DAG: each reads the run's context, calls a step and returns a record.

The DAG file imports this module at parse time, so heavy modules are imported only when a task runs.
"""

import dataclasses
import json
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowSkipException

from learning_engine.airflow import windows
from learning_engine.airflow.context import (
    permanent_errors_fail,
    person,
    resources_of,
    result_of,
    run_info,
    settings_of,
)
from learning_engine.config import Settings
from learning_engine.records.contracts import AdapterVersion, Candidate, Dataset, Deployment, FisherRecord
from learning_engine.records.report import Report
from learning_engine.steps import accepted as accepted_step
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps import enough as enough_step
from learning_engine.steps import evaluate as evaluate_step
from learning_engine.steps import extract as extract_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import publish as publish_step
from learning_engine.steps import train as train_step
from learning_engine.steps.resources import Resources
from learning_engine.telemetry import event

Json = dict[str, Any]


@permanent_errors_fail
def extract() -> Json:
    """Store the window's feedback as a snapshot in the bucket."""
    context = get_current_context()
    resources = resources_of(context)
    mine = windows.of_run(context["dag_run"], context["params"], resources.settings.dag)
    return extract_step.extract(resources, mine.window, widen=not mine.explicit).to_json()


@permanent_errors_fail
def enough(dataset: Json) -> bool:
    """Skip the rest if there is too little feedback to train on or to judge by; the XCom `verdict` has the figures."""
    context = get_current_context()
    record = Dataset.from_json(dataset)
    settings = settings_of(context)
    found = enough_step.enough(settings, rows=record.rows, heldout=record.heldout, users=record.users)
    # Held-out conversations and users matter only to the gate, which `quality` overrules.
    least = {"count": 1, "quality": settings.feedback.min_samples}.get(context["params"].get("force"))
    forced = least is not None and record.rows >= least
    passed = found.passed or forced
    verdict = {
        "samples": record.rows,
        "needed": settings.feedback.min_samples,
        "heldout": record.heldout,
        "heldout_needed": settings.gate.min_heldout,
        "users": record.users,
        "users_needed": settings.gate.min_users,
        "passed": passed,
        "forced": forced and not found.passed,
        "why": found.why,
        "read": record.read,
        "dropped": record.dropped,
        "quarantined": record.quarantined,
    }
    event("enough", **verdict)
    context["ti"].xcom_push(key="verdict", value=verdict)
    return passed


@permanent_errors_fail
def fisher(dataset: Json) -> Json:
    """The Fisher information that protects the parent; skips the rest if tokenization leaves too little to train on."""
    context = get_current_context()
    resources, record = resources_of(context), Dataset.from_json(dataset)
    _require_enough_left(context, resources, record)
    return fisher_step.fisher(resources, record).to_json()


def _require_enough_left(context: Any, resources: Resources, dataset: Dataset) -> None:
    """Skip the task, and so the rest of the run, unless enough is left or `force` is set; `verdict` has the figures."""
    left = enough_step.after_tokenization(resources, dataset)
    forced = left.rows > 0 and context["params"].get("force") in ("count", "quality")
    passed = left.passed or forced
    verdict = {**dataclasses.asdict(left), "passed": passed, "forced": forced and not left.passed}
    event("enough_left", **verdict)
    context["ti"].xcom_push(key="verdict", value=verdict)
    if not passed:
        raise AirflowSkipException(left.why)


@permanent_errors_fail
def train(dataset: Json, fisher: Json) -> Json:
    """Train the candidate adapter and stage it in the bucket."""
    resources = resources_of(get_current_context())
    return train_step.train(resources, Dataset.from_json(dataset), FisherRecord.from_json(fisher)).to_json()


@permanent_errors_fail
def evaluate(dataset: Json, candidate: Json) -> Json:
    """Evaluate the candidate: the report has the gate's verdict and the probes."""
    resources = resources_of(get_current_context())
    return evaluate_step.evaluate(resources, Dataset.from_json(dataset), Candidate.from_json(candidate)).to_json()


@permanent_errors_fail
def publish(dataset: Json, candidate: Json, report: Json) -> Json:
    """Publish the immutable version; its metadata becomes the extra of the adapter asset's event."""
    context = get_current_context()
    resources = resources_of(context)
    version = publish_step.publish(
        resources,
        Dataset.from_json(dataset),
        Candidate.from_json(candidate),
        Report.from_json(report),
        run=run_info(context),
    )
    for asset in context["task"].outlets:
        context["outlet_events"][asset].extra = version.to_json()
    return version.to_json()


@permanent_errors_fail
def accepted(version: Json) -> bool:
    """Skip the deployment unless gate, `deploy` setting and descent from the live version all allow it."""
    context = get_current_context()
    resources = resources_of(context)
    record = AdapterVersion.from_json(version)
    decision = accepted_step.may_deploy(resources, record, force=context["params"].get("force") == "quality")
    event("accepted", version=record.version, deploy=decision.deploy, why=decision.why)
    context["ti"].xcom_push(key="verdict", value={"deploy": decision.deploy, "why": decision.why})
    return decision.deploy


class Approve(ApprovalOperator):  # type: ignore[misc]
    """Waits for a person if `deploy` is `approve`, or if the version has no probe; otherwise succeeds at once."""

    @permanent_errors_fail
    def execute(self, context: Any) -> Any:
        settings = settings_of(context)
        version = AdapterVersion.from_json(result_of(context, "publish"))
        if not _must_ask(settings, version):
            return None
        self.subject = f"Deploy adapter {version.version}?"
        self.body = _summary(version)
        return super().execute(context)

    @permanent_errors_fail
    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """A rejection revokes the version, so that no later version continues it and goes live instead."""
        if self.REJECT in event.get("chosen_options", ()):
            version = result_of(context, "publish")["version"]
            by = f"{(event.get('responded_by_user') or {}).get('name', 'an unnamed user')}, by rejection"
            resources_of(context).registry.revoke(version, by=by, reason="its deployment was rejected")
        return super().execute_complete(context, event)


@permanent_errors_fail
def deploy(version: Json) -> Json:
    """Preflight, copy, load and probe on every replica; does not move the pointer."""
    context = get_current_context()
    resources, record = resources_of(context), AdapterVersion.from_json(version)
    return deploy_step.deploy(
        resources,
        record,
        run=run_info(context),
        decided_by=_decided_by(context, record),
        force=context["params"].get("force") == "quality",
    ).to_json()


@permanent_errors_fail
def verify(deployment: Json) -> Json:
    """Probe every replica again, then update ledger and pointer, drain and unload."""
    resources = resources_of(get_current_context())
    return deploy_step.verify(resources, Deployment.from_json(deployment)).to_json()


def _must_ask(settings: Settings, version: AdapterVersion) -> bool:
    return settings.deploy == "approve" or version.report.probes is None


def _decided_by(context: Any, version: AdapterVersion) -> str:
    """Who decided: the person who approved or forced the deployment, or the gate. Nobody, if approval was required but
    a person marked that task as a success instead of answering."""
    answer = context["ti"].xcom_pull(task_ids="approve")
    if answer:
        user = (answer.get("responded_by_user") or {}).get("name", "an unnamed user")
        return f"{user}, by approval"
    skipped = _must_ask(settings_of(context), version)
    if context["params"].get("force") == "quality":
        return f"{person(context)}, against the gate{'; approval was skipped' if skipped else ''}"
    return "nobody: approval was skipped" if skipped else "the gate"


def _summary(version: AdapterVersion) -> str:
    rows = "\n".join(
        f"| {rule.name} | {'passed' if rule.passed else 'failed'} | {rule.why} |" for rule in version.report.rules
    )
    proof = "no probe proves it on a server" if version.report.probes is None else "provable by probes"
    parent = version.parent or "the base model"
    return (
        f"Window {version.window}, {version.dataset.rows} rows, parent {parent}, {proof}.\n\n"
        f"| rule | verdict | why |\n|---|---|---|\n{rows}\n\n```json\n{json.dumps(version.report.retained)}\n```"
    )
