"""The metrics of the bucket, of what is live, and of the scrape: each with its name, its meaning and unit, its labels,
and where its value comes from. Those of trainings are in `trained`.

A figure that is not known is None and does not appear. The values of labels are of fixed sets, or names of replicas and
of one version at a time.
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
# By the values of the labels, in their order.
Reading = Number | Mapping[str, Number] | Mapping[tuple[str, str], Number]

RULES = frozenset({
    "heldout", "users", "integrity", "finite", "learned", "margin", "retained", "drift", "drift_base", "length",
    "servable",
})  # fmt: skip


@dataclass(frozen=True)
class Figure(Generic[S]):
    """One metric, read from a record of the kind S."""

    name: str
    meaning: str
    read: Callable[[S], Reading]
    labels: tuple[str, ...] = ()
    kind: Literal["gauge", "counter"] = "gauge"


@dataclass(frozen=True)
class Scrape:
    """What a scrape knows beside the bucket: `durations` are seconds by task, `seconds` its own."""

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
    """None where a version is missing: a counter that went back would look as if it had begun anew."""
    if found.unreadable["adapters"]:
        return None
    judged = (rule for version in found.versions for rule in version.report.rules)
    return {**Counter((known(rule.name, RULES), "passed" if rule.passed else "failed") for rule in judged)}


def _actions(found: Inventory) -> Reading:
    """None where an entry is missing, as above."""
    if found.unreadable["deployments"]:
        return None
    counts = Counter(entry.action for entry in found.deployments if entry)
    return {"deploy": counts["deploy"], "rollback": counts["rollback"]}


def known(name: str, names: frozenset[str]) -> str:
    """A label's value: `name`, or "other" where it is none of `names`."""
    return name if name in names else OTHER


BUCKET: tuple[Figure[Inventory], ...] = (
    Figure("versions", "Published versions by verdict; a revoked one counts as revoked only.", _verdicts, ("verdict",)),
    Figure(
        "gate_verdicts_total",
        "Verdicts of the gate on all versions, by rule (passed, failed).",
        _rules,
        ("rule", "verdict"),
        "counter",
    ),
    Figure(
        "deployments_total", "Entries of the ledger, by action (deploy, rollback).", _actions, ("action",), "counter"
    ),
    Figure("storage_bytes", "Bytes below store.prefix, by area of the bucket.", lambda found: found.bytes, ("area",)),
    Figure("storage_objects", "Objects below store.prefix, by area.", lambda found: found.objects, ("area",)),
    Figure(
        "unreadable_objects",
        "Metadata, ledger entries and progress that are there and cannot be read, by area.",
        lambda found: found.unreadable,
        ("area",),
    ),
    Figure(
        "live_archive_present",
        "1 where the live version's archive lies in the bucket, else 0.",
        lambda found: found.live.version in found.with_archive if found.live and found.live.version else None,
    ),
    Figure(
        "training_running",
        "1 while a training tells how far it is; 0 ten minutes after its last word, or once it is done.",
        lambda found: found.running,
    ),
)

LIVE: tuple[Figure[Deployment], ...] = (
    Figure(
        "live",
        "1 for the version that is live, with the adapter's name on the server.",
        lambda entry: {(entry.version or "base", entry.adapter_name): 1},
        ("version", "adapter"),
    ),
    Figure(
        "live_since_seconds",
        "Unix time in seconds of the deployment that put it live.",
        lambda entry: entry.at.timestamp(),
    ),
    Figure(
        "swap_seconds",
        "Seconds that each replica took to load the live version.",
        lambda entry: {proof.replica: proof.load_seconds for proof in entry.replicas},
        ("replica",),
    ),
)

SCRAPE: tuple[Figure[Scrape], ...] = (
    Figure(
        "step_duration_seconds",
        "Seconds of the newest success of each task of the weekly DAG.",
        lambda scrape: scrape.durations,
        ("step",),
    ),
    Figure("collection_duration_seconds", "Seconds that reading the bucket took.", lambda scrape: scrape.seconds),
    Figure(
        "info",
        "1, with the package's version and the base model that is configured.",
        lambda scrape: {(__version__, scrape.base_model): 1},
        ("version", "base_model"),
    ),
)
