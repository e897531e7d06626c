"""The tasks of the other DAGs: Fisher information, deploy or roll back, reconcile and watch, maintenance."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowSkipException

from learning_engine import telemetry
from learning_engine.airflow import windows
from learning_engine.airflow.context import permanent_errors_fail, person, resources_of, result_of, run_info
from learning_engine.errors import Overtaken
from learning_engine.records.contracts import AdapterVersion
from learning_engine.steps import accepted as accepted_step
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import maintain as maintain_step
from learning_engine.steps import monitor as monitor_step
from learning_engine.steps import reconcile as reconcile_step
from learning_engine.steps.resources import Resources
from learning_engine.telemetry import event

Json = dict[str, Any]


@permanent_errors_fail
def fisher_of_version() -> Json:
    """Measure the Fisher information of a published version, on its own window or on another one."""
    context = get_current_context()
    resources = resources_of(context)
    params: Mapping[str, Any] = context["params"]
    window = None
    if params.get("window_start") or params.get("window_end"):
        window = windows.of_run(context["dag_run"], params, resources.settings.dag).window
    return fisher_step.fisher_of(resources, str(params["version"]), window=window).to_json()


@permanent_errors_fail
def choose() -> Json:
    """Choose the requested version, or the one to roll back to; the XCom `seen` records the state of that moment."""
    context = get_current_context()
    resources = resources_of(context)
    action, version = context["params"]["action"], context["params"].get("version")
    live = resources.ledger.newest()
    chosen = deploy_step.choose(resources, action=action, version=version)
    seen = {"live": live.version if live else None, "revoked": accepted_step.revoked_of(resources, chosen.version)}
    context["ti"].xcom_push(key="seen", value=seen)
    return chosen.to_json()


@permanent_errors_fail
def deploy_by_hand(choice: Json) -> Json:
    """As `deploy`, for a version that a person chose; fails if the state in `seen` has changed since."""
    context = get_current_context()
    resources, action = resources_of(context), context["params"]["action"]
    version = AdapterVersion.from_json(choice)
    # A run that started before an upgrade may lack this XCom.
    seen = context["ti"].xcom_pull(task_ids="choose", key="seen") or {}
    if action == "rollback":
        replaced = seen.get("live") or context["params"].get("version")
        version = deploy_step.choose(resources, action=action, version=replaced)
    return deploy_step.deploy(
        resources,
        version,
        run=run_info(context),
        decided_by=person(context),
        action=action,
        by_hand=True,
        despite=seen.get("revoked", ()),
    ).to_json()


@permanent_errors_fail
def reconcile() -> Json:
    """Make every replica serve the live version; fails naming one that does not."""
    result: Json = reconcile_step.reconcile(resources_of(get_current_context()))
    return result


@permanent_errors_fail
def watch() -> bool:
    """Skip the rest unless users like the live version less than the previous one; the XCom `verdict` says why."""
    context = get_current_context()
    verdict = monitor_step.judge(resources_of(context))
    event("watch", roll_back=verdict.roll_back, why=verdict.why)
    context["ti"].xcom_push(key="verdict", value=dataclasses.asdict(verdict))
    return verdict.roll_back


@permanent_errors_fail
def roll_back() -> Json:
    """As `deploy`, for the version before the one that `watch` judged; skipped if that one is no longer live."""
    context = get_current_context()
    resources = resources_of(context)
    verdict = result_of(context, "watch", "verdict")
    target = _rollback_target(resources, verdict.get("version"))
    return deploy_step.deploy(
        resources,
        target,
        run=run_info(context),
        decided_by=f"monitoring: {verdict['why']}",
        action="rollback",
        by_hand=True,
        despite=accepted_step.revoked_of(resources, target.version),
    ).to_json()


def _rollback_target(resources: Resources, judged: str | None) -> AdapterVersion:
    if judged is None:
        raise AirflowSkipException("The verdict predates an upgrade and names no version: the next run judges again.")
    try:
        return deploy_step.choose(resources, action="rollback", version=judged)
    except Overtaken as error:
        telemetry.warning("watch.overtaken", judged=judged, message=str(error))
        raise AirflowSkipException(f"{error} The next run judges the version that is live then.") from error


@permanent_errors_fail
def sweep() -> Json:
    """Delete what retention allows."""
    context = get_current_context()
    resources = resources_of(context)
    result: Json = maintain_step.sweep(resources, dry_run=bool(context["params"]["dry_run"]))
    return result


@permanent_errors_fail
def audit() -> Json:
    """Read the ledger and every object; fails naming each one that is missing or corrupt."""
    resources = resources_of(get_current_context())
    result: Json = maintain_step.audit(resources)
    return result
