"""The records that travel between tasks, into object metadata and out of the REST API.

Frozen, small and typed. A record crosses XCom as the plain JSON dict of `to_json`, with a schema number, because
Airflow refuses to deserialise classes that are not on its allow list. Times are UTC; windows are half-open.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import TypeAdapter, ValidationError

from learning_engine.errors import LearningEngineError

SCHEMA = 1


class RecordError(LearningEngineError):
    """A stored record cannot be read by this version of the package."""


class Record:
    """Mixin: a frozen dataclass that turns into a JSON dict and back."""

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = TypeAdapter(type(self)).dump_python(self, mode="json")
        return {"record": type(self).__name__, "schema": SCHEMA, **body}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        body = dict(data)
        name, schema = body.pop("record", None), body.pop("schema", None)
        if (name, schema) != (cls.__name__, SCHEMA):
            raise RecordError(
                f"Expected a {cls.__name__} record of schema {SCHEMA}, found {name!r} of schema {schema!r}: "
                "it was written by another version of learning_engine; clear the run from its first task."
            )
        try:
            return TypeAdapter(cls).validate_python(body)
        except ValidationError as error:
            raise RecordError(f"Not a readable {cls.__name__} record: {error}") from error


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
            # A plain datetime: Airflow's own (pendulum) loses its zone when a timedelta is taken from it.
            object.__setattr__(self, name, datetime.fromisoformat(value.astimezone(UTC).isoformat()))
        if self.start >= self.end:
            raise RecordError(
                f"A window must start before it ends, found [{self.start.isoformat()}, {self.end.isoformat()})"
            )

    def __str__(self) -> str:
        return f"[{self.start:%Y-%m-%d %H:%M}, {self.end:%Y-%m-%d %H:%M}) UTC"


@dataclass(frozen=True)
class Dataset(Record):
    """A window's cleaned feedback as one Parquet object. `rows` counts what is left after every rule that drops.

    `asked` is the run's own window where carry-over made `window` start earlier: it decides who the parent is.
    `read` = `rows` + `dropped` + `quarantined`, both by reason; `quarantine_uri` names the file of the rows that would
    have steered the model and were set aside, None where there are none.
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


@dataclass(frozen=True)
class FisherRecord(Record):
    """Fisher information that guards `guards` (a version, or "base"). `uri` is None where there is nothing to guard."""

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


@dataclass(frozen=True)
class LoraShape(Record):
    """What must stay constant along a chain of versions."""

    rank: int
    alpha: float
    target_modules: tuple[str, ...]


@dataclass(frozen=True)
class TrainingMetrics(Record):
    """Losses in nats per supervised token, `task_loss` of kto in units of the weights instead.

    `replayed` of the `examples` come from earlier windows' reservoirs.
    `ewc_loss` is the penalty at the last step, λ included, and `ewc_lambda` its λ; `predicted_kl` is what the penalty
    says of the KL from a guarded version to the candidate, the mean over the guarded ones, in nats per token.
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
    predicted_kl: float | None = None
    notes: list[str] = field(default_factory=list)
    replayed: int = 0


@dataclass(frozen=True)
class Candidate(Record):
    """A trained adapter that is not a version yet; its archive lies in the run's staging prefix, and so do the rows
    that later windows will replay, where there are any (`replay_uri`)."""

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
class Rule(Record):
    """One rule of the gate. `figure` is None where it could not be measured, and then `why` says so."""

    name: str
    figure: float | None
    comparison: Literal[">=", "<="]
    bound: float
    passed: bool
    why: str


@dataclass(frozen=True)
class Probes(Record):
    """Where the prompts lie that prove this version on a server, and how clearly they tell it from its parent and base.

    The prompts may hold users' words, so they are an object of their own and never part of a record.
    `smallest_margin` is in nats.
    """

    uri: str
    sha256: str
    count: int
    smallest_margin: float


@dataclass(frozen=True)
class Summary(Record):
    """Of a chain, in nats per supervised token: the mean loss on each window right after it was `learned`; how much of
    the lowest loss ever reached on earlier windows is `forgotten` (≥ 0); by how much later windows improved earlier
    ones (`backward_transfer`, negative where they cost them). None where there is nothing to take the mean of.
    """

    learned: float | None = None
    forgotten: float | None = None
    backward_transfer: float | None = None


@dataclass(frozen=True)
class Report(Record):
    """What evaluation found. Losses in nats per supervised token on held-out feedback; drift is KL in nats per token.

    `scores[v]` is the candidate's loss on the held-out set of version v (its row of the matrix R), `matrix` has the
    rows of its ancestors; `retained[v]` is the share kept of the best improvement over the base that any version
    reached there, `drift_windows[v]` KL(parent ‖ candidate) over the supervised tokens there. `length_ratio` is that of
    greedy answers on fixed prompts, candidate to parent (without one, to the base).
    """

    run_key: str
    heldout_rows: int
    loss: float | None
    loss_parent: float | None
    loss_base: float | None
    gain_lower_bound: float | None
    scores: dict[str, float]
    best: dict[str, float]
    base_scores: dict[str, float]
    retained: dict[str, float]
    drift_parent: float | None
    drift_base: float | None
    margin: float | None
    margin_parent: float | None
    rules: list[Rule]
    accepted: bool
    probes: Probes | None
    notes: list[str] = field(default_factory=list)
    heldout_conversations: int | None = None
    drift_windows: dict[str, float] = field(default_factory=dict)
    length_ratio: float | None = None
    matrix: dict[str, dict[str, float]] = field(default_factory=dict)
    summary: Summary = field(default_factory=Summary)


@dataclass(frozen=True)
class RunInfo(Record):
    """Which DAG run did the work, and who asked for it."""

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
    """One ledger entry: from `at` on, `version` answers (None: the base model does)."""

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
