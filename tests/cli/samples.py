"""Sample responses built from the REST API's models: two versions, a weekly run, a ledger."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from learning_engine.records.contracts import AdapterVersion, Deployment, TrainingProgress
from learning_engine.registry.draft import Revocation
from learning_engine.web import response_models, training_models
from tests.registry import work

ARCHIVE = b"the bytes of an adapter " * 4000
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
LONG_RUN = "manual__2026-09-21T02:00:00.123456+00:00_q7Xh2LbZ"
FISHER_RUN = "manual__2026-09-21T03:00:00+00:00_f"
NOON = datetime(2026, 9, 21, 12, 30, tzinfo=UTC)


def version(number: int, parent: str | None) -> AdapterVersion:
    key, window = f"run{number}", work.week(number)
    return AdapterVersion(
        version=f"v1.{number}",
        parent=parent,
        window=window,
        run_key=key,
        base_model="tiny-llama",
        base_revision="abc",
        lora=work.SHAPE,
        uri=f"s3://lora-adapters/adapters/v1.{number}/adapter.tar.gz",
        sha256=SHA256,
        size=len(ARCHIVE),
        accepted=True,
        dataset=work.dataset(
            key, window, parent, uri=f"s3://lora-adapters/runs/{key}/dataset.parquet", sha256="0" * 64
        ),
        fisher=work.FisherRecord(parent or "base", "kronecker", "sampled", "per_supervised_token", None, None, 0, 0),
        ewc_lambda=300.0,
        training=work.TrainingMetrics(
            1.2, 0.03, 40, 300, {"too_long": 2}, 9000, 4000, 61.0, 150.0, 1, None, "cpu", "fp32"
        ),
        report=work.report(key, None),
        heldout_uri=None,
        config={},
        run=work.run(number),
        created_at=window.end + timedelta(hours=1),
    )


VERSIONS = (version(0, None), version(1, "v1.0"))


def summary(of: AdapterVersion, *, live: bool = False, revoked: bool = False) -> response_models.AdapterSummary:
    report = of.report
    return response_models.AdapterSummary(
        version=of.version,
        parent=of.parent,
        window=of.window,
        created_at=of.created_at,
        base_model=of.base_model,
        accepted=of.accepted,
        live=live,
        revoked=revoked,
        vouched=False,
        failed_rules=[] if of.accepted else ["kept"],
        rows=of.dataset.rows,
        thumbs_up=of.dataset.thumbs_up,
        thumbs_down=of.dataset.thumbs_down,
        loss=report.loss,
        loss_parent=report.loss_parent,
        loss_base=report.loss_base,
        retained=0.93,
        drift_parent=0.1,
        ewc_lambda=of.ewc_lambda,
        size=of.size,
        sha256=of.sha256,
    )


def deployment(name: str | None, previous: str | None, hours: int, action: str = "deploy") -> Deployment:
    made = work.deployment(name, NOON + timedelta(hours=hours), action)
    return replace(made, previous=previous, decided_by="admin, by hand")


def detail(of: AdapterVersion) -> response_models.AdapterDetail:
    newest = of.version == "v1.1"
    return response_models.AdapterDetail(
        summary=summary(of, live=newest, revoked=not newest),
        metadata=of,
        lineage=["v1.0"] if newest else [],
        children=[] if newest else ["v1.1"],
        digests={of.uri: of.sha256},
        revocation=None if newest else Revocation(of.version, "admin", "worse than before", NOON),
        vouch=None,
        deployments=[deployment(of.version, None, 0)],
    )


def task(name: str, state: str | None) -> training_models.TaskState:
    return training_models.TaskState(task=name, state=state, seconds=1.5, tries=1)


def progress(step: int) -> TrainingProgress:
    curve = [(number, 2.0 / number, 0.01 * number) for number in range(1, step + 1)]
    return TrainingProgress(step, 40, 0.421, 0.0137, 1e-4, 812.0, 200.0, None, 1 << 30, curve, NOON)


def training(run_id: str, state: str, now: str | None = None, **changes: object) -> training_models.TrainingRun:
    ended = NOON + timedelta(minutes=5) if state in ("success", "failed") else None
    fields: dict[str, object] = {
        "dag_id": "learning_engine_weekly",
        "run_id": run_id,
        "run_type": "manual",
        "state": state,
        "triggered_by": "admin",
        "window": None if state == "queued" else work.week(1),
        "queued_at": NOON,
        "started_at": None if state == "queued" else NOON,
        "ended_at": ended,
        "task": now,
        "tasks": [task("extract", "success"), *([task(now, "running")] if now else [])],
        "progress": None,
        "version": None,
        "verdict": None,
        "note": None,
        "airflow": f"/dags/learning_engine_weekly/runs/{run_id}",
    }
    return training_models.TrainingRun.model_validate({**fields, **changes})


def run_states(run_id: str = LONG_RUN) -> list[training_models.TrainingRun]:
    """The successive states of a run, one per request."""
    return [
        training(run_id, "queued"),
        training(run_id, "running", "extract"),
        training(run_id, "running", "train", progress=progress(4)),
        training(run_id, "running", "train", progress=progress(20)),
        training(run_id, "running", "deploy"),
        training(run_id, "success", version="v1.2", verdict="accepted by every rule"),
    ]


def health(state: str = "up") -> response_models.Health:
    reason = "Expected a response from http://max:8000 within 5 s, found none: check that it is up and reachable."
    replica = response_models.Check(
        name="max-0 (http://max.example:8000)",
        kind="replica",
        state="up" if state == "up" else "down",
        latency_ms=3.25,
        reason=None if state == "up" else reason,
    )
    store = response_models.Check(name="store", kind="store", state="up", latency_ms=12)
    workers = response_models.Check(name="GPU workers", kind="gpu_workers", state="unknown", reason="No Celery here.")
    return response_models.Health.model_validate({"state": state, "checks": [store, replica, workers]})


def preflight(passed: bool = True) -> training_models.Preflight:
    found = 300 if passed else 12
    return training_models.Preflight(
        window=work.week(1),
        asked=work.week(1),
        parent="v1.0",
        overlapping=["v1.2", "v1.1"],
        read=found + 15,
        rows=found,
        thumbs_up=found - 2,
        thumbs_down=2,
        users=7,
        conversations=9,
        tokens=12_345,
        dropped={"unreadable": 10, "too_long": 3},
        quarantined={"burst": 2},
        count_gate=training_models.CountGate(
            passed=passed, needed=200, found=found, why=f"{found} rows, 200 are needed"
        ),
        memory=training_models.MemoryFit(fits=None, expected_bytes=None, available_bytes=None, why="No training yet."),
        gpu_minutes=3.5,
        gpu_minutes_by=["v1.1"],
    )


STORAGE = response_models.Storage(
    bucket="lora-adapters",
    prefix="town",
    objects=1234,
    bytes=56_789_012,
    areas=[response_models.StorageArea(area="adapters", objects=34, bytes=50_000_000)],
    versions=2,
    accepted=1,
    rejected=1,
    revoked=1,
    largest=[response_models.StorageArea(area="v1.1", objects=5, bytes=30_000_000)],
)
METRICS = """\
# HELP learning_engine_samples Rows of a window.
# TYPE learning_engine_samples gauge
learning_engine_samples{rating="up",version="v1.1"} 250.0
learning_engine_samples{rating="down",version="v1.1"} 50.0
# HELP learning_engine_ewc_loss EWC loss.
# TYPE learning_engine_ewc_loss gauge
learning_engine_ewc_loss{version="v1.1"} NaN
"""
