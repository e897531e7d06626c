"""What publishing starts from, and the small records that it and a rollback leave beside a version."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from learning_engine.records.base import Record
from learning_engine.records.contracts import Dataset, FisherRecord, LoraShape, RunInfo, TrainingMetrics, Window
from learning_engine.records.report import Report


@dataclass(frozen=True)
class Draft:
    """A version but for what publishing adds: its number, its place and its time. `report.probes` is still staged."""

    parent: str | None
    window: Window
    run_key: str
    base_model: str
    base_revision: str
    lora: LoraShape
    sha256: str
    size: int
    accepted: bool
    dataset: Dataset
    fisher: FisherRecord
    ewc_lambda: float
    training: TrainingMetrics
    report: Report
    config: dict[str, Any]
    run: RunInfo


@dataclass(frozen=True)
class Claim(Record):
    """The mark by which one run key asks for a number."""

    run_key: str
    base_model: str
    base_revision: str
    lora: LoraShape


@dataclass(frozen=True)
class Revocation(Record):
    """Who took a version back, when and why."""

    version: str
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class Vouch(Record):
    """Who put a version live that the gate had rejected, when and why."""

    version: str
    by: str
    reason: str
    at: datetime
