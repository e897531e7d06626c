"""Responses of the REST API about trainings: a run's progress, and what a run would find."""

from datetime import datetime

from pydantic import Field

from learning_engine.records.contracts import TrainingProgress, Window
from learning_engine.web.response_models import ResponseModel


class TaskState(ResponseModel):
    """`state` is Airflow's task state; None before the task is scheduled."""

    task: str
    state: str | None
    seconds: float | None
    tries: int


class TrainingRun(ResponseModel):
    """A run of the weekly DAG. `verdict` says why it deployed its `version` or not, or what feedback was missing."""

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


class TrainingStatus(ResponseModel):
    """`current`: active runs in the order in which they will run. `recent`: ended runs, newest first."""

    current: list[TrainingRun]
    recent: list[TrainingRun]


class CountGate(ResponseModel):
    passed: bool
    needed: int
    found: int
    why: str


class MemoryFit(ResponseModel):
    """Whether the GPU has enough memory, estimated from the newest training with the same memory-relevant settings."""

    fits: bool | None = Field(description="None: unknown.")
    expected_bytes: int | None
    available_bytes: int | None
    why: str


class Preflight(ResponseModel):
    """What a run over `window` would find. `read` = `rows` + `dropped` + `quarantined`; the last two are by reason."""

    window: Window
    asked: Window
    parent: str | None
    overlapping: list[str] = Field(
        description="Accepted versions whose window overlaps it, newest first; they cannot be its parent."
    )
    read: int
    rows: int
    thumbs_up: int
    thumbs_down: int
    users: int | None
    conversations: int
    tokens: int | None = Field(
        description="Tokens of prompts and answers, without the chat template; None unless model.base is a directory."
    )
    dropped: dict[str, int]
    quarantined: dict[str, int]
    count_gate: CountGate
    memory: MemoryFit
    gpu_minutes: float | None = Field(
        description="Estimated from the seconds per row of recent trainings; None without one."
    )
    gpu_minutes_by: list[str] = Field(description="The versions that the estimate is based on.")
