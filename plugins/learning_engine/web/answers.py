"""What the REST API answers. Times are ISO 8601 in UTC, losses nats per supervised token, sizes bytes.

Records of the package (`contracts`, `report`) appear as they lie in the bucket, less the schema number.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from learning_engine.records.contracts import AdapterVersion, Deployment, TrainingProgress, Window
from learning_engine.registry.draft import Revocation, Vouch


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


def _examples(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class Problem(Answer):
    """RFC 9457: what was expected, what was found and what to do."""

    model_config = _examples(
        {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "Expected a published version, found no v9.9: GET /adapters lists them.",
            "errors": [],
        }
    )

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] = Field(default_factory=list, description="For 422: where, and what was wrong.")


class Live(Answer):
    """What applications ask the model server for. `model` is the base model's name until a version is live."""

    model_config = _examples(
        {
            "model": "v1.3-5e0c81aa",
            "version": "v1.3",
            "base_model": "meta-llama/Llama-3.1-8B-Instruct",
            "since": "2026-11-16T03:12:40Z",
            "proven": True,
        }
    )

    model: str
    version: str | None
    base_model: str | None = Field(description="None where the live version's metadata cannot be read.")
    since: datetime | None
    proven: bool | None
    age_seconds: float = Field(0, description="More than 0: the store gives no answer; this was its last, so long ago.")


class Check(Answer):
    """One part that the loop depends on. `unknown`: it cannot be told from here."""

    name: str = Field(examples=["store"])
    kind: Literal["database", "store", "replica", "gpu_workers", "scheduler", "next_parent", "ledger"]
    state: Literal["up", "degraded", "down", "unknown"]
    latency_ms: float | None = None
    reason: str | None = Field(None, description="Why it is not up, and what to do.")
    detail: dict[str, Any] = Field(default_factory=dict)


class Health(Answer):
    """`down` where a part without which no week can be learned or served is; answered with 503 then."""

    state: Literal["up", "degraded", "down"]
    checks: list[Check]


class May(Answer):
    train: bool
    fisher: bool
    deploy: bool


class Me(Answer):
    """Who is signed in, and what they may start."""

    name: str
    may: May


class RunAccepted(Answer):
    """A DAG run that Airflow has taken; `status` is where it is told how it goes, `airflow` its page there."""

    dag_id: str
    run_id: str
    state: str
    status: str
    airflow: str


class AdapterSummary(Answer):
    """A version in a list."""

    version: str
    parent: str | None
    window: Window
    created_at: datetime
    base_model: str
    accepted: bool
    live: bool
    revoked: bool
    vouched: bool
    failed_rules: list[str] = Field(description="The gate's rules that it did not pass.")
    rows: int
    thumbs_up: int
    thumbs_down: int
    loss: float | None = Field(description="On held-out rows of its window.")
    loss_parent: float | None
    loss_base: float | None
    retained: float | None = Field(description="The smallest share kept of any earlier window; None without one.")
    drift_parent: float | None
    ewc_lambda: float
    size: int
    sha256: str


class AdapterPage(Answer):
    """Newest first."""

    total: int
    limit: int
    offset: int
    items: list[AdapterSummary]
    unreadable: list[str] = Field(description="Versions whose metadata cannot be read: see the daily audit.")


class AdapterDetail(Answer):
    """Everything that is known of a version."""

    summary: AdapterSummary
    metadata: AdapterVersion
    lineage: list[str] = Field(description="Its parent, that one's parent and so on.")
    children: list[str]
    digests: dict[str, str] = Field(description="sha256 of each object that its record names, by URI.")
    revocation: Revocation | None
    vouch: Vouch | None
    deployments: list[Deployment] = Field(description="Its entries in the ledger, newest first.")


class DeploymentPage(Answer):
    """The ledger, newest first."""

    total: int
    limit: int
    offset: int
    items: list[Deployment]
    rollback_target: str | None = Field(
        description="The version that a rollback would return to; None where only the base model is left, and where a "
        "damaged entry keeps it from being told."
    )
    unreadable: list[str] = Field(default_factory=list, description="Entries that cannot be read: see the daily audit.")


class DeploymentAt(Answer):
    """What answered at `time`; without a deployment it was the base model."""

    time: datetime
    version: str | None
    deployment: Deployment | None


class TaskState(Answer):
    """`state` is Airflow's; None before it is scheduled."""

    task: str
    state: str | None
    seconds: float | None
    tries: int


class TrainingRun(Answer):
    """A run of the weekly DAG. `verdict`: why it deployed its `version`, or did not, or had too few rows."""

    dag_id: str
    run_id: str
    run_type: str
    state: str
    triggered_by: str | None
    window: Window | None
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    task: str | None = Field(description="The first task that has not ended.")
    tasks: list[TaskState]
    progress: TrainingProgress | None
    version: str | None
    verdict: str | None
    note: str | None
    airflow: str


class TrainingStatus(Answer):
    """`current` are the active runs, the one whose turn it is first; `recent` those that have ended, newest first."""

    current: list[TrainingRun]
    recent: list[TrainingRun]


class CountGate(Answer):
    passed: bool
    needed: int
    found: int
    why: str


class MemoryFit(Answer):
    """Whether the GPU's memory suffices, by the newest training of the same base model and batch size."""

    fits: bool | None = Field(description="None: it cannot be told.")
    expected_bytes: int | None
    available_bytes: int | None
    why: str


class Preflight(Answer):
    """What a run over `window` would find. `read` = `rows` + `dropped` + `quarantined`, both by reason."""

    window: Window
    asked: Window
    parent: str | None
    overlapping: list[str] = Field(
        description="Accepted versions that learned from a part of it, newest first; it continues none of them."
    )
    read: int
    rows: int
    thumbs_up: int
    thumbs_down: int
    users: int | None
    conversations: int
    tokens: int | None = Field(description="Estimated from the rows' text.")
    dropped: dict[str, int]
    quarantined: dict[str, int]
    count_gate: CountGate
    memory: MemoryFit
    gpu_minutes: float | None = Field(description="By the seconds a row of the last trainings; None without one.")
    gpu_minutes_by: list[str] = Field(description="The versions that the estimate rests on.")


class StorageArea(Answer):
    area: str = Field(examples=["adapters"])
    objects: int
    bytes: int


class Storage(Answer):
    """What lies below `store.prefix`."""

    bucket: str
    prefix: str
    objects: int
    bytes: int
    areas: list[StorageArea]
    versions: int
    accepted: int
    rejected: int
    revoked: int
    largest: list[StorageArea] = Field(description="The versions with the most bytes.")
