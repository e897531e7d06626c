"""The DAG files as Airflow parses them: no import errors, no heavy modules, the expected structure and forms."""

import json
import subprocess
import sys
from datetime import timedelta

import pytest

from learning_engine.web.training import TASKS
from tests.conftest import ROOT

HEAVY = {"torch", "transformers", "peft", "datasets", "boto3", "pyarrow", "accelerate", "bitsandbytes"}
DAG_FILES = sorted(path.name for path in (ROOT / "dags").glob("*.py"))


def in_subprocess(code: str, **environment: str) -> dict:
    """The JSON that `code` prints in a separate interpreter with plugins/ on the path, as in Airflow."""
    import os

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins"), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def dagbag():
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=str(ROOT / "dags"), collect_dags=False)
    bag.collect_dags(dag_folder=str(ROOT / "dags"), safe_mode=False)
    assert bag.import_errors == {}
    return bag


@pytest.mark.parametrize("name", DAG_FILES)
def test_parsing_imports_nothing_heavy(name):
    code = f"""
import json, sys, runpy
runpy.run_path({str(ROOT / "dags" / name)!r})
print(json.dumps(sorted({HEAVY!r} & set(sys.modules))))
"""
    assert in_subprocess(code) == []


def test_loading_the_plugin_executes_no_other_file_and_imports_nothing_heavy():
    """Only plugin.py is executed; no other file becomes a top-level module, and no heavy module is imported."""
    code = f"""
import json, sys
before = set(sys.modules)
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
names = sorted(plugin.name for plugin in plugins if "learning" in plugin.name)
stems = {{path.stem for path in __import__("pathlib").Path({str(ROOT / "plugins")!r}).rglob("*.py")}} - {{"__init__"}}
stray_modules = sorted(
    name for name, module in sys.modules.items()
    if "." not in name and name in stems and {str(ROOT / "plugins")!r} in str(getattr(module, "__file__", ""))
)
print(json.dumps([names, errors, stray_modules, sorted({HEAVY!r} & set(sys.modules))]))
"""
    names, errors, stray, heavy = in_subprocess(code)
    assert len(names) == 1
    assert names[0].startswith("learning_engine ")
    assert errors == {}
    assert [name for name in stray if name != "plugin"] == []
    assert heavy == []


def test_every_dag_is_documented_tagged_and_owned(dagbag):
    names = ("weekly", "fisher", "deploy", "reconcile", "maintenance")
    assert {f"learning_engine_{name}" for name in names} <= set(dagbag.dags)
    for dag in dagbag.dags.values():
        assert dag.doc_md, dag.dag_id
        assert "learning-engine" in dag.tags, dag.dag_id
        assert dag.max_active_runs == 1, dag.dag_id
        for task in dag.tasks:
            assert task.owner == "ml", task.task_id
            assert task.retries == 2, task.task_id


def test_the_weekly_tasks_are_one_chain_in_the_promised_order(dagbag):
    weekly = dagbag.dags["learning_engine_weekly"]
    order = [task.task_id for task in weekly.topological_sort()]
    assert " ".join(order) == ("turn extract enough fisher train evaluate publish accepted approve deploy verify")
    assert tuple(order) == TASKS, "the status of a run lists its tasks in this order"


def test_each_task_has_its_queue_and_pool(dagbag):
    weekly = dagbag.dags["learning_engine_weekly"]
    for name in ("fisher", "train", "evaluate"):
        task = weekly.get_task(name)
        assert (task.queue, task.pool) == ("gpu", "gpu")
        assert task.execution_timeout == timedelta(hours=12)
    for name in ("publish", "deploy", "verify"):
        assert weekly.get_task(name).pool == "learning_engine_registry"
    for name in ("turn", "extract", "enough", "accepted"):
        assert weekly.get_task(name).queue == "default"
    reconcile = dagbag.dags["learning_engine_reconcile"]
    pools = {task.task_id: task.pool for task in reconcile.topological_sort()}
    registry = "learning_engine_registry"
    assert pools == {"reconcile": registry, "watch": "default_pool", "roll_back": registry, "verify": registry}


def test_the_audit_runs_even_if_the_sweep_fails_and_the_run_fails_if_either_does(dagbag):
    """Airflow takes a run's state from its last tasks; the last one here succeeds only if both did."""
    maintenance = dagbag.dags["learning_engine_maintenance"]
    sweep, audit, done = (maintenance.get_task(name) for name in ("sweep", "audit", "done"))
    assert (audit.upstream_task_ids, audit.trigger_rule) == ({"sweep"}, "all_done")
    assert sweep.downstream_task_ids == {"audit", "done"}
    assert (done.upstream_task_ids, done.trigger_rule) == ({"sweep", "audit"}, "all_success")
    assert maintenance.leaves == [done]


def test_queues_and_schedule_come_from_the_configuration():
    code = f"""
import json
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder={str(ROOT / "dags")!r}, collect_dags=False)
bag.collect_dags(dag_folder={str(ROOT / "dags")!r}, safe_mode=False)
dag = bag.dags["other_weekly"]
print(json.dumps([dag.get_task("train").queue, dag.get_task("train").pool, dag.get_task("deploy").queue,
                  dag.timetable.expression, dag.params["ewc_lambda"],
                  [asset.uri for asset in dag.get_task("publish").outlets]]))
"""
    found = in_subprocess(
        code,
        LEARNING_ENGINE__DAG__ID_PREFIX="other",
        LEARNING_ENGINE__DAG__TRAIN_QUEUE="h200",
        LEARNING_ENGINE__DAG__TRAIN_POOL="big",
        LEARNING_ENGINE__DAG__DEPLOY_QUEUE="edge",
        LEARNING_ENGINE__DAG__SCHEDULE="15 3 * * 2",
        LEARNING_ENGINE__EWC__LAMBDA="123",
        LEARNING_ENGINE__STORE__PREFIX="tenant-a",
    )
    assert found == [
        "h200",
        "big",
        "edge",
        "15 3 * * 2",
        123.0,
        ["x-learning-engine://lora-adapters/tenant-a/adapters"],
    ]


@pytest.mark.parametrize(
    ("param", "bad"),
    [
        ("window_start", "yesterday"),
        ("min_samples", 0),
        ("min_samples", "many"),
        ("ewc_lambda", -1),
        ("epochs", 0),
        ("learning_rate", 2),
        ("base_model", ""),
        ("force", "everything"),
        ("deploy", "now"),
    ],
)
def test_the_form_refuses_values_out_of_bounds(dagbag, param, bad):
    from airflow.sdk.exceptions import ParamValidationError

    weekly = dagbag.dags["learning_engine_weekly"]
    params = weekly.params.__class__({name: weekly.params.get_param(name) for name in weekly.params})
    with pytest.raises(ParamValidationError):
        params[param] = bad


def test_every_param_has_a_description(dagbag):
    weekly = dagbag.dags["learning_engine_weekly"]
    assert " ".join(weekly.params) == (
        "window_start window_end min_samples force deploy ewc_lambda epochs learning_rate base_model"
    )
    for name in weekly.params:
        param = weekly.params.get_param(name)
        assert param.description, name
        assert param.schema["section"] in {"Window", "Gate", "Training"}, name
