"""The matrix R of a chain of versions: R[i, j] is the loss of version i on the held-out rows of version j's window.

In nats per supervised token, over the liked answers that judge later versions. With T the candidate:

  learned           = mean over j ≤ T of R[j, j]: the loss right after each window was learned
  forgotten         = mean over j < T of R[T, j] − min over i ≤ T of R[i, j]
  backward transfer = mean over j < T of R[j, j] − R[T, j]

R is a loss, so lower is better and the signs are opposite to the usual definitions over accuracies. `forgotten` is
never negative, and 0 if nothing was forgotten. Backward transfer is positive if later windows improved earlier ones.
Windows without a held-out set are left out. Sources: Lopez-Paz and Ranzato, Gradient Episodic Memory, 2017; Chaudhry
et al., Riemannian Walk, 2018.
"""

import math
from collections.abc import Iterable, Iterator, Mapping

from learning_engine.evaluation import superseded
from learning_engine.records.contracts import AdapterVersion
from learning_engine.records.report import Summary

Rows = Mapping[str, Mapping[str, float]]


def rows_of(ancestors: Iterable[AdapterVersion]) -> dict[str, dict[str, float]]:
    """The rows of R by version, oldest first, from `ancestors`, youngest first. Losses on a window of which some rows
    were superseded later are left out."""
    rows = {}
    for version, changed in superseded.comparable(ancestors):
        report = version.report
        loss = report.sample.loss if report.sample else report.loss
        own = {} if loss is None else {version.version: loss}
        rows[version.version] = {
            window: loss for window, loss in {**report.scores, **own}.items() if window not in changed
        }
    return dict(reversed(rows.items()))


def best_of(ancestors: Iterable[AdapterVersion]) -> dict[str, float]:
    """The lowest loss that any of the `ancestors` reached on the rows that judge each window."""
    return superseded.best(ancestors, _reached, min)


def _reached(version: AdapterVersion) -> Iterator[tuple[str, float | None]]:
    report = version.report
    yield from report.scores.items()
    yield from report.best.items()
    if report.sample:
        yield version.version, report.sample.loss


def best(rows: Rows) -> dict[str, float]:
    """The lowest loss that any version reached on each window."""
    found: dict[str, float] = {}
    for row in rows.values():
        for window, loss in row.items():
            found[window] = min(loss, found.get(window, loss))
    return found


def summary(rows: Rows, *, scores: Mapping[str, float], loss: float | None) -> Summary:
    """The summary of the chain that ends in a candidate with `scores` on earlier windows and `loss` on its own."""
    reached = best({**rows, "candidate": scores})
    at_first = {version: row[version] for version, row in rows.items() if version in row}
    own = [*at_first.values(), *([] if loss is None else [loss])]
    return Summary(
        learned=_mean(own),
        forgotten=_mean([loss - reached[window] for window, loss in scores.items() if window in at_first]),
        backward_transfer=_mean([at_first[window] - loss for window, loss in scores.items() if window in at_first]),
    )


def _mean(losses: list[float]) -> float | None:
    return math.fsum(losses) / len(losses) if losses else None
