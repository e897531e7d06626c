"""Definitions of the metrics of the bucket, the live version and the scrape: name, help text with unit, labels, value.

The metrics of trainings are in `training_metrics`. A metric whose value is None is omitted. Label values come from
fixed sets, except replica names, adapter names and one version at a time.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from learning_engine import __version__
from learning_engine.records.contracts import Deployment
from learning_engine.web.inventory import OTHER, Inventory

S = TypeVar("S")
Number = float | None
# A number, or numbers by label values, in the order of the labels.
Reading = Number | Mapping[str, Number] | Mapping[tuple[str, str], Number]

RULES = frozenset({
    "heldout", "users", "integrity", "finite", "learned", "taught", "margin", "disliked", "retained", "drift",
    "drift_base", "base", "length", "ends", "servable",
})  # fmt: skip


@dataclass(frozen=True)
class MetricDefinition(Generic[S]):
    """One metric; `read` computes its value from a record of type S."""

    name: str
    meaning: str
    read: Callable[[S], Reading]
    labels: tuple[str, ...] = ()
    kind: Literal["gauge", "counter"] = "gauge"


@dataclass(frozen=True)
class ScrapeContext:
    """Values from outside the bucket: `durations` in seconds by task, `seconds` that reading the bucket took."""

    base_model: str
    durations: Mapping[str, float]
    seconds: float


def _verdicts(found: Inventory) -> dict[str, Number]:
    verdicts = Counter({"accepted": 0, "rejected": 0, "revoked": 0})
    for version in found.versions:
        judged = "accepted" if version.accepted else "rejected"
        verdicts["revoked" if version.version in found.revoked else judged] += 1
    return {**verdicts}


def _rules(found: Inventory) -> Reading:
    """None if a version is unreadable: Prometheus would take a decreasing counter for a reset."""
    if found.unreadable["adapters"]:
        return None
    judged = (rule for version in found.versions for rule in version.report.rules)
    return {**Counter((known(rule.name, RULES), "passed" if rule.passed else "failed") for rule in judged)}


def _actions(found: Inventory) -> Reading:
    """None if an entry is unreadable, as in `_rules`."""
    if found.unreadable["deployments"]:
        return None
    counts = Counter(entry.action for entry in found.deployments if entry)
    return {"deploy": counts["deploy"], "rollback": counts["rollback"]}


def known(name: str, names: frozenset[str]) -> str:
    """A label value: `name`, or "other" if it is not in `names`."""
    return name if name in names else OTHER


BUCKET: tuple[MetricDefinition[Inventory], ...] = (
    MetricDefinition(
        "versions", "Published versions by verdict; a revoked version counts only as revoked.", _verdicts, ("verdict",)
    ),
    MetricDefinition(
        "gate_verdicts_total",
        "Gate verdicts (passed, failed) over all versions, by rule.",
        _rules,
        ("rule", "verdict"),
        "counter",
    ),
    MetricDefinition(
        "deployments_total", "Ledger entries, by action (deploy, rollback).", _actions, ("action",), "counter"
    ),
    MetricDefinition(
        "storage_bytes", "Bytes below store.prefix, by area of the bucket.", lambda found: found.bytes, ("area",)
    ),
    MetricDefinition("storage_objects", "Objects below store.prefix, by area.", lambda found: found.objects, ("area",)),
    MetricDefinition(
        "unreadable_objects",
        "Metadata, ledger entries and progress records that exist but cannot be read, by area.",
        lambda found: found.unreadable,
        ("area",),
    ),
    MetricDefinition(
        "live_archive_present",
        "1 if the live version's archive exists in the bucket, else 0.",
        lambda found: found.live.version in found.with_archive if found.live and found.live.version else None,
    ),
    MetricDefinition(
        "training_running",
        "1 while a training reports progress; 0 once it is done, or 10 minutes after its last report.",
        lambda found: found.running,
    ),
)

LIVE: tuple[MetricDefinition[Deployment], ...] = (
    MetricDefinition(
        "live",
        "1 for the live version, with the adapter's name on the model server.",
        lambda entry: {(entry.version or "base", entry.adapter_name): 1},
        ("version", "adapter"),
    ),
    MetricDefinition(
        "live_since_seconds",
        "Unix time in seconds at which the live version was deployed.",
        lambda entry: entry.at.timestamp(),
    ),
    MetricDefinition(
        "swap_seconds",
        "Seconds that each replica took to load the live version.",
        lambda entry: {proof.replica: proof.load_seconds for proof in entry.replicas},
        ("replica",),
    ),
)

SCRAPE: tuple[MetricDefinition[ScrapeContext], ...] = (
    MetricDefinition(
        "step_duration_seconds",
        "Seconds that each task of the weekly DAG took in its latest success.",
        lambda scrape: scrape.durations,
        ("step",),
    ),
    MetricDefinition(
        "collection_duration_seconds", "Seconds that reading the bucket took.", lambda scrape: scrape.seconds
    ),
    MetricDefinition(
        "info",
        "1, with the package version and the configured base model.",
        lambda scrape: {(__version__, scrape.base_model): 1},
        ("version", "base_model"),
    ),
)
