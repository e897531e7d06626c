"""The draft from which a version is published, and the small records stored with a version."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from learning_engine.records.base import Record
from learning_engine.records.contracts import Dataset, FisherRecord, LoraShape, RunInfo, TrainingMetrics, Window
from learning_engine.records.report import Report


@dataclass(frozen=True)
class Draft:
    """A version without what publishing adds: number, place and time. `report.probes` still names the staged file."""

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
    """A run's claim to a version number (see `claims`)."""

    run_key: str
    base_model: str
    base_revision: str
    lora: LoraShape


@dataclass(frozen=True)
class Revocation(Record):
    """Who revoked a version, when and why."""

    version: str
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class Vouch(Record):
    """Who deployed a version that the gate had rejected, when and why."""

    version: str
    by: str
    reason: str
    at: datetime
