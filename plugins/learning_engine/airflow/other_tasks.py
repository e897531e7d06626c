"""The tasks of the other DAGs: Fisher of a version, deploy or roll back, reconcile and watch, upkeep."""

from collections.abc import Mapping
from typing import Any

from airflow.sdk import get_current_context

from learning_engine.airflow import windows
from learning_engine.airflow.context import permanent_errors_fail, person, resources_of, run_info
from learning_engine.records.contracts import AdapterVersion
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import maintain as maintain_step
from learning_engine.steps import monitor as monitor_step
from learning_engine.steps import reconcile as reconcile_step
from learning_engine.telemetry import event

Json = dict[str, Any]


@permanent_errors_fail
def fisher_of_version() -> Json:
    """Fisher information of a published version, on its own window or on another one."""
    context = get_current_context()
    resources = resources_of(context)
    params: Mapping[str, Any] = context["params"]
    window = None
    if params.get("window_start") or params.get("window_end"):
        window = windows.of_run(context["dag_run"], params, resources.settings.dag).window
    return fisher_step.fisher_of(resources, str(params["version"]), window=window).to_json()


@permanent_errors_fail
def choose() -> Json:
    """The version that a person asked for, or the one to roll back to."""
    context = get_current_context()
    resources = resources_of(context)
    action, version = context["params"]["action"], context["params"].get("version")
    return deploy_step.choose(resources, action=action, version=version).to_json()


@permanent_errors_fail
def deploy_by_hand(choice: Json) -> Json:
    """As `deploy`, for a version that a person chose."""
    context = get_current_context()
    resources = resources_of(context)
    return deploy_step.deploy(
        resources,
        AdapterVersion.from_json(choice),
        run=run_info(context),
        decided_by=person(context),
        action=context["params"]["action"],
        by_hand=True,
    ).to_json()


@permanent_errors_fail
def reconcile() -> Json:
    """Every replica serves the live version, or is made to; fails naming one that does not."""
    result: Json = reconcile_step.reconcile(resources_of(get_current_context()))
    return result


@permanent_errors_fail
def watch() -> bool:
    """Short-circuits unless users like the live version less than the one before; the XCom `verdict` says why."""
    context = get_current_context()
    verdict = monitor_step.look(resources_of(context))
    event("watch", roll_back=verdict.roll_back, why=verdict.why)
    context["ti"].xcom_push(key="verdict", value={"roll_back": verdict.roll_back, "why": verdict.why})
    return verdict.roll_back


@permanent_errors_fail
def roll_back() -> Json:
    """As `deploy`, for the version before the live one; decided by the watch."""
    context = get_current_context()
    resources = resources_of(context)
    verdict = context["ti"].xcom_pull(task_ids="watch", key="verdict")
    return deploy_step.deploy(
        resources,
        deploy_step.choose(resources, action="rollback", version=None),
        run=run_info(context),
        decided_by=f"the watch: {verdict['why']}",
        action="rollback",
        by_hand=True,
    ).to_json()


@permanent_errors_fail
def sweep() -> Json:
    """Retention: what may go, goes."""
    context = get_current_context()
    resources = resources_of(context)
    result: Json = maintain_step.sweep(resources, dry_run=bool(context["params"]["dry_run"]))
    return result


@permanent_errors_fail
def audit() -> Json:
    """Read the ledger and every object again; fails naming each that is missing or altered."""
    resources = resources_of(get_current_context())
    result: Json = maintain_step.audit(resources)
    return result
