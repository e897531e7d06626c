"""Who decided a deployment according to the ledger, especially if a required approval was skipped."""

from types import SimpleNamespace
from typing import Any

import pytest

from learning_engine.airflow import weekly_tasks
from learning_engine.records.contracts import AdapterVersion, Deployment, FisherRecord, TrainingMetrics
from learning_engine.records.report import Probes
from learning_engine.steps import deploy as deploy_step
from tests.airflow.test_weekly_tasks import TaskInstance
from tests.registry import work

PROBES = Probes("s3://lora-adapters/adapters/v1.0/probes.json", "0" * 64, 4, 1.5)
TRAINING = TrainingMetrics(1.2, 0.03, 40, 300, {}, 9000, 4000, 61.0, 150.0, 1, None, "cpu", "fp32")


def version(probes: Probes | None) -> dict[str, Any]:
    return AdapterVersion(
        version="v1.0",
        parent=None,
        window=work.week(0),
        run_key="k",
        base_model="tiny-llama",
        base_revision="abc",
        lora=work.SHAPE,
        uri="s3://lora-adapters/adapters/v1.0/adapter.tar.gz",
        sha256="0" * 64,
        size=1,
        accepted=True,
        dataset=work.dataset("k", work.week(0), None, uri="s3://lora-adapters/runs/k/dataset.parquet", sha256="0" * 64),
        fisher=FisherRecord("base", "diagonal", "sampled", "per_supervised_token", None, None, 0, 0),
        ewc_lambda=300.0,
        training=TRAINING,
        report=work.report("k", probes),
        heldout_uri=None,
        config={},
        run=work.run(),
        created_at=work.MONDAY,
    ).to_json()


def answer(chosen: str) -> dict[str, Any]:
    return {"chosen_options": [chosen], "params_input": {}, "responded_by_user": {"id": "1", "name": "grace"}}


@pytest.mark.parametrize(
    ("deploy", "probes", "force", "chosen", "by"),
    [
        ("auto", PROBES, "none", None, "the gate"),
        ("auto", PROBES, "quality", None, "ada, by hand, against the gate"),
        ("approve", PROBES, "none", "Approve", "grace, by approval"),
        ("approve", PROBES, "quality", "Approve", "grace, by approval"),
        ("auto", None, "none", "Approve", "grace, by approval"),
        ("approve", PROBES, "none", None, "nobody: approval was skipped"),
        ("auto", None, "none", None, "nobody: approval was skipped"),
        ("approve", PROBES, "quality", None, "ada, by hand, against the gate; approval was skipped"),
    ],
)
def test_the_ledger_names_who_decided(
    monkeypatch: pytest.MonkeyPatch, deploy: str, probes: Probes | None, force: str, chosen: str | None, by: str
) -> None:
    instance, decided = TaskInstance(), []
    if chosen:
        instance.upstream["approve", "return_value"] = answer(chosen)
    run = SimpleNamespace(dag_id="d", run_id="r", run_type="manual", triggering_user_name="ada")
    context = {"params": {"deploy": deploy, "force": force}, "dag_run": run, "ti": instance}

    def deployed(*_: Any, decided_by: str, **__: Any) -> Deployment:
        decided.append(decided_by)
        return work.deployment("v1.0", work.MONDAY)

    monkeypatch.setattr(deploy_step, "deploy", deployed)
    monkeypatch.setattr(weekly_tasks, "resources_of", lambda _: None)
    monkeypatch.setattr(weekly_tasks, "get_current_context", lambda: context)
    weekly_tasks.deploy(version(probes))
    assert decided == [by]
