"""A task that a person marked as a success has no result: the task that needs it fails once and says so."""

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from learning_engine.airflow import context as airflow_context
from tests.conftest import ROOT

ROLLED_BACK = ("reconcile", "roll_back", "verify")


@pytest.fixture(scope="module")
def dags() -> dict[str, Any]:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=str(ROOT / "dags"), collect_dags=False)
    bag.collect_dags(dag_folder=str(ROOT / "dags"), safe_mode=False)
    found: dict[str, Any] = bag.dags
    return found


class TaskInstance:
    """`xcom_pull` returns the task's entry in `results`, or None."""

    def __init__(self, results: dict[str, Any]) -> None:
        self.results = results

    def xcom_pull(self, *, task_ids: str, **_: Any) -> Any:
        return self.results.get(task_ids)


def run(dag: Any, task_id: str, monkeypatch: pytest.MonkeyPatch, **results: Any) -> None:
    """Run the task as a worker does: copy it, render its arguments, call its function."""
    task = dag.get_task(task_id).prepare_for_execution()
    context = {"dag": dag, "task": task, "ti": TaskInstance(results), "params": {}, "expanded_ti_count": None}
    monkeypatch.setattr(airflow_context, "get_current_context", lambda: context)
    task.render_template_fields(context)
    task.python_callable(*task.op_args, **task.op_kwargs)


def test_a_task_without_its_input_names_the_task_that_has_no_result(
    dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for dag in dags.values():
        for task in dag.tasks:
            upstream = [argument.operator.task_id for argument in getattr(task, "op_args", ())]
            for needed in upstream:
                others = {name: {"record": "any"} for name in upstream if name != needed}
                with pytest.raises(
                    AirflowFailException, match=rf"Expected a result of {needed}, .* run from {needed}\."
                ):
                    run(dag, task.task_id, monkeypatch, **others)
                seen.add((dag.dag_id.removeprefix("learning_engine_"), needed, task.task_id))
    weekly = {one for one in seen if one[0] == "weekly"}
    assert seen - weekly == {("deploy", "choose", "deploy"), ("deploy", "deploy", "verify"), ROLLED_BACK}
    assert len(weekly) == 12


def test_an_approval_without_a_version_fails_and_names_publish(dags: dict[str, Any]) -> None:
    approve = dags["learning_engine_weekly"].get_task("approve")
    with pytest.raises(AirflowFailException, match="Expected a result of publish"):
        approve.execute({"params": {}, "ti": TaskInstance({})})
    rejected = {"chosen_options": ["Reject"], "params_input": {}, "responded_at": None, "responded_by_user": None}
    with pytest.raises(AirflowFailException, match="Expected a result of publish"):
        approve.execute_complete({"params": {}, "ti": TaskInstance({})}, rejected)
