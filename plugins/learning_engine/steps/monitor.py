"""The task `watch`: compare the votes on the live version with those on the previous version.

Off by default (`watch.max_rise`). Votes pass the same cleaning and quarantine as for training, so votes that cannot
steer training cannot cause a rollback either. A row whose response names its model (`model`, as in the OpenAI format)
counts for that version only; any other row counts for the version that was live when it was written.
"""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from learning_engine import telemetry
from learning_engine.records.contracts import Deployment, Window
from learning_engine.steps import placement
from learning_engine.steps.resources import Resources, workspace

if TYPE_CHECKING:
    import pyarrow

# The normal quantile of a one-sided 95 % bound.
Z = 1.645


@dataclass(frozen=True)
class Votes:
    """Thumbs on one version's answers."""

    up: int
    down: int

    @property
    def total(self) -> int:
        return self.up + self.down

    @property
    def share(self) -> float:
        """The share of thumbs down, 0 if there are no votes."""
        return self.down / self.total if self.total else 0.0


@dataclass(frozen=True)
class Verdict:
    """Whether to roll back `version` (None: no version was judged), and why, in one sentence."""

    roll_back: bool
    why: str
    version: str | None = None


def judge(resources: Resources, *, now: datetime | None = None) -> Verdict:
    """Compare the votes on the live version with those on the previous version. `now` is for tests."""
    watch, moment = resources.settings.watch, now or datetime.now(UTC)
    if watch.max_rise is None:
        return Verdict(False, "watch.max_rise is not set")
    entries = resources.ledger.entries()
    live = entries[0] if entries else None
    if live is None or live.action != "deploy" or live.previous is None:
        return Verdict(False, "the live version did not replace another one")
    if moment - live.at > timedelta(hours=watch.hours):
        return Verdict(False, f"{live.version} has been live for longer than watch.hours")
    if resources.ledger.rollback_target() != live.previous:
        return Verdict(False, f"a rollback would not return to {live.previous}")
    deployed = next((entry.at for entry in entries[1:] if entry.version == live.previous), live.at)
    since = max(deployed, live.at - timedelta(hours=watch.hours))
    with telemetry.step("watch", version=live.version, previous=live.previous) as result:
        before = _votes(resources, since, live.at, live.previous_adapter_name)
        after = _votes(resources, live.at, moment, live.adapter_name)
        result.update(before=vars(before), after=vars(after), rise=round(after.share - before.share, 4))
        return _verdict(live, before, after, max_rise=watch.max_rise, min_votes=watch.min_votes)


def rise_lower_bound(before: Votes, after: Votes) -> float:
    """The lower 95 % bound of the rise in the share of thumbs down, by Newcombe's hybrid score interval.

    Source: Newcombe, Interval estimation for the difference between independent proportions, 1998, method 10.
    """
    lower, _ = _wilson(after)
    _, upper = _wilson(before)
    return after.share - before.share - math.hypot(after.share - lower, upper - before.share)


def _wilson(votes: Votes) -> tuple[float, float]:
    n, p = votes.total, votes.share
    centre = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return centre - half, centre + half


def _verdict(live: Deployment, before: Votes, after: Votes, *, max_rise: float, min_votes: int) -> Verdict:
    if min(before.total, after.total) < min_votes:
        found = f"{before.total} on {live.previous} and {after.total} on {live.version}"
        return Verdict(False, f"fewer than {min_votes} votes each: {found}", live.version)
    rise = rise_lower_bound(before, after)
    figures = (
        f"thumbs down rose from {before.share:.1%} of {before.total} votes on {live.previous} to {after.share:.1%} of "
        f"{after.total} on {live.version}, by at least {rise:+.1%} (95 %)"
    )
    return Verdict(rise > max_rise, f"{figures}; watch.max_rise is {max_rise:.1%}", live.version)


def _votes(resources: Resources, start: datetime, end: datetime, adapter: str | None) -> Votes:
    """The votes in [start, end), without rows that name another version than `adapter` as their model."""
    from learning_engine.feedback import snapshot, source

    feedback = resources.settings.feedback
    others = {placement.server_name(resources, version) for version in resources.registry.versions()} - {adapter}
    if start >= end:
        return Votes(0, 0)
    with workspace() as work:
        counts = snapshot.write(
            _without(others, source.read(resources.open_feedback(), Window(start, end), feedback)),
            work / "votes.parquet",
            feedback=feedback,
            heldout_fraction=0.0,
        )
    return Votes(counts.thumbs_up, counts.thumbs_down)


def _without(others: set[str], batches: "Iterable[pyarrow.RecordBatch]") -> "Iterator[pyarrow.RecordBatch]":
    """The raw rows whose response does not name one of `others` as its model."""
    import pyarrow

    for batch in batches:
        kept = [_named_model(response) not in others for response in batch.column("response").to_pylist()]
        yield batch.filter(pyarrow.array(kept, pyarrow.bool_()))


def _named_model(response: str | None) -> Any:
    """The `model` that a response names, or None."""
    try:
        body = json.loads(response or "null")
        body = json.loads(body) if isinstance(body, str) else body
    except ValueError:
        return None
    named = body.get("model") if isinstance(body, dict) else None
    return named if isinstance(named, str) else None
