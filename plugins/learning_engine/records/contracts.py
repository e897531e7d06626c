"""The records passed between tasks, stored in the bucket and returned by the REST API.

Frozen, small and typed. Times are UTC; windows are half-open.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from learning_engine.records.base import Record, RecordError
from learning_engine.records.report import Report

KRONECKER = "kronecker"
# Units of Fisher information: as measured, or divided by the mean trace of a layer (see learning.scale).
MEASURED, SCALED = "per_supervised_token", "unit_layer_trace"
# The name in older records, files and configurations.
FORMER_KRONECKER = "kfac"


@dataclass(frozen=True)
class Window(Record):
    """A half-open interval [start, end) of feedback, in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            value: datetime = getattr(self, name)
            if value.tzinfo is None:
                raise RecordError(f"The window's {name} needs a time zone, found {value.isoformat()}")
            # Convert to a plain datetime: Airflow's pendulum type loses its zone when a timedelta is subtracted.
            object.__setattr__(self, name, datetime.fromisoformat(value.astimezone(UTC).isoformat()))
        if self.start >= self.end:
            raise RecordError(
                f"A window must start before it ends, found [{self.start.isoformat()}, {self.end.isoformat()})"
            )

    def __str__(self) -> str:
        return f"[{self.start:%Y-%m-%d %H:%M}, {self.end:%Y-%m-%d %H:%M}) UTC"


@dataclass(frozen=True)
class Dataset(Record):
    """A window's cleaned feedback as one Parquet object. `rows` counts the rows left after all filters.

    `asked` is the run's own window, before carry-over made `window` start earlier; it determines the parent.
    `read` = `rows` + `dropped` + `quarantined`, the last two by reason. `quarantine_uri` names the file of rows set
    aside as attempts to steer the model, None if there are none. `passed_over` lists the versions that could not
    become the parent because their archives are missing or corrupt; the intended parent comes first. `heldout` counts
    the held-out conversations with a liked answer; None in records of versions that did not count them.
    """

    run_key: str
    parent: str | None
    window: Window
    uri: str
    sha256: str
    rows: int
    thumbs_up: int
    thumbs_down: int
    users: int | None
    conversations: int
    read: int
    dropped: dict[str, int] = field(default_factory=dict)
    tokens: int | None = None
    asked: Window | None = None
    quarantined: dict[str, int] = field(default_factory=dict)
    quarantine_uri: str | None = None
    heldout: int | None = None
    passed_over: list[str] = field(default_factory=list)


def weight_of(accumulated: int, decay: float) -> float:
    """Total weight of a version and the `accumulated` versions before it, if all additions used the same `decay`."""
    return float(sum(decay**age for age in range(accumulated + 1)))


@dataclass(frozen=True)
class FisherRecord(Record):
    """Fisher information that protects `guards` (a version, or "base"). `uri` is None if there is nothing to protect.

    `accumulated` lists the earlier versions added, oldest first; the last addition used the factor `decay`. `weight` is
    the total weight of all of them, where the newest counts 1. For older records without a weight it is computed as if
    every addition had used `decay`. `trace` is the mean trace of a layer that was measured on `guards`, in nats per
    token and squared unit of weight, before it was scaled to 1; 0 if unknown.
    """

    guards: str
    kind: str
    labels: str
    units: str
    uri: str | None
    sha256: str | None
    n_sequences: int
    n_tokens: int
    accumulated: list[str] = field(default_factory=list)
    decay: float = 1.0
    note: str = ""
    smoothing: float = 0.0
    weight: float = 0.0
    trace: float = 0.0

    def __post_init__(self) -> None:
        if not self.weight:
            object.__setattr__(self, "weight", weight_of(len(self.accumulated), self.decay))
        if self.kind == FORMER_KRONECKER:
            object.__setattr__(self, "kind", KRONECKER)


@dataclass(frozen=True)
class LoraShape(Record):
    """The adapter's shape, which must stay constant along a chain of versions."""

    rank: int
    alpha: float
    target_modules: tuple[str, ...]


@dataclass(frozen=True)
class TrainingMetrics(Record):
    """Losses in nats per supervised token, except the `task_loss` of kto, which is in units of the example weights.

    `replayed` counts the `examples` that come from earlier windows' reservoirs or from the anchor. `ewc_loss` is the
    penalty at the last step, including its λ, `ewc_lambda`. `device_memory_bytes` is the training's share of the GPU
    memory, None on a CPU.
    """

    task_loss: float
    ewc_loss: float
    steps: int
    examples: int
    dropped: dict[str, int]
    tokens: int
    supervised_tokens: int
    seconds: float
    tokens_per_second: float
    peak_memory_bytes: int
    gpu_utilisation: float | None
    device: str
    precision: str
    resumed_at_step: int = 0
    curve: list[tuple[int, float, float]] = field(default_factory=list)
    ewc_lambda: float | None = None
    notes: list[str] = field(default_factory=list)
    replayed: int = 0
    device_memory_bytes: int | None = None


@dataclass(frozen=True)
class TrainingProgress(Record):
    """The progress of a training while it runs. Losses are as in `TrainingMetrics`, averaged since the previous point;
    `curve` has (step, task loss, EWC loss)."""

    step: int
    of: int
    task_loss: float
    ewc_loss: float
    learning_rate: float
    tokens_per_second: float
    eta_seconds: float
    gpu_utilisation: float | None
    peak_memory_bytes: int
    curve: list[tuple[int, float, float]]
    updated_at: datetime


@dataclass(frozen=True)
class Candidate(Record):
    """A trained adapter that is not a version yet. The run's staging prefix holds its archive and any rows that later
    windows will replay (`replay_uri`)."""

    run_key: str
    parent: str | None
    window: Window
    base_model: str
    base_revision: str
    lora: LoraShape
    uri: str
    sha256: str
    size: int
    ewc_lambda: float
    fisher: FisherRecord
    training: TrainingMetrics
    replay_uri: str | None = None


@dataclass(frozen=True)
class RunInfo(Record):
    """The DAG run that did the work, and who triggered it."""

    dag_id: str
    run_id: str
    run_type: str
    triggered_by: str | None = None


@dataclass(frozen=True)
class AdapterVersion(Record):
    """An immutable published version: the content of its metadata.json."""

    version: str
    parent: str | None
    window: Window
    run_key: str
    base_model: str
    base_revision: str
    lora: LoraShape
    uri: str
    sha256: str
    size: int
    accepted: bool
    dataset: Dataset
    fisher: FisherRecord
    ewc_lambda: float
    training: TrainingMetrics
    report: Report
    heldout_uri: str | None
    config: dict[str, Any]
    run: RunInfo
    created_at: datetime
    replay_uri: str | None = None


@dataclass(frozen=True)
class ReplicaProof(Record):
    """One replica that answered the probes with the version's own tokens."""

    replica: str
    adapter_name: str
    probes_passed: int
    load_seconds: float


@dataclass(frozen=True)
class Deployment(Record):
    """One ledger entry: from `at` on, `version` is live (None: the base model).

    `follows` is the time of the newest entry when the version was loaded; None if there was none, and in entries older
    than this field. `despite` lists the revoked versions among this one and its ancestors that a person accepted when
    choosing it.
    """

    version: str | None
    adapter_name: str
    previous: str | None
    previous_adapter_name: str | None
    replicas: list[ReplicaProof]
    proven: bool
    action: Literal["deploy", "rollback"]
    decided_by: str
    run: RunInfo
    at: datetime
    follows: datetime | None = None
    despite: list[str] = field(default_factory=list)
