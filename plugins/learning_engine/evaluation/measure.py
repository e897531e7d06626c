"""Measure what a candidate learned from its window and retained of earlier ones."""

from collections.abc import Mapping, Sequence

import datasets
import numpy as np
import numpy.typing as npt

from learning_engine.config import sections
from learning_engine.evaluation import drift, greedy, metrics, retention
from learning_engine.evaluation.figures import Kept, Learned, Lengths
from learning_engine.evaluation.metrics import RowLosses
from learning_engine.evaluation.views import View, Views


def learned(
    views: Views, heldout: datasets.Dataset, conversations: Sequence[str], settings: sections.Evaluation, *, seed: int
) -> Learned:
    """Figures on the window's own held-out rows. The column `row` of `heldout` is an index into `conversations`."""
    rows = _sample(heldout, settings.max_rows)
    liked = _liked(rows)
    conversation = np.array([conversations[row] for row in rows["row"]] if len(rows) else [], dtype=str)

    def losses(view: View) -> RowLosses:
        return metrics.row_losses(views, view, rows, batch_size=settings.batch_size)

    candidate, base = losses("candidate"), losses("base")
    parent = losses("parent") if views.has_parent else base
    return Learned(
        rows=len(rows),
        conversations=len(np.unique(conversation[liked])),
        loss=candidate[liked].mean(),
        loss_parent=parent[liked].mean(),
        loss_base=base[liked].mean(),
        gain_lower_bound=metrics.paired_bootstrap(
            candidate[liked], parent[liked], conversation[liked], draws=settings.bootstrap, seed=seed
        ),
        margin=metrics.margin(candidate, liked),
        margin_parent=metrics.margin(parent, liked),
    )


def kept(
    views: Views,
    earlier: Mapping[str, datasets.Dataset],
    settings: sections.Evaluation,
    *,
    best: Mapping[str, float],
    missing: list[str],
) -> Kept:
    """Figures on the liked held-out rows of earlier windows."""
    size = settings.batch_size
    liked = {version: examples.select(np.flatnonzero(_liked(examples))) for version, examples in earlier.items()}
    rows = {version: _sample(examples, settings.max_rows) for version, examples in liked.items() if len(examples)}

    def scores(view: View) -> dict[str, float | None]:
        return {v: metrics.row_losses(views, view, examples, batch_size=size).mean() for v, examples in rows.items()}

    candidate, base = scores("candidate"), scores("base")
    shares = retention.shares(candidate, base, best)
    return Kept(
        scores=candidate,
        base_scores=base,
        best={version: best[version] for version in rows if version in best},
        retained=shares,
        drift={version: drift.on_answers(views, examples, batch_size=size) for version, examples in rows.items()},
        nothing_learned=[version for version in earlier if version not in shares],
        missing=missing,
    )


def lengths(views: Views, prompts: Sequence[Sequence[int]], settings: sections.Evaluation) -> Lengths:
    """Lengths of greedy answers to the rendered `prompts`."""

    def mean(view: View) -> float | None:
        return greedy.mean_length(views, view, prompts, tokens=settings.answer_tokens, batch_size=settings.batch_size)

    return Lengths(candidate=mean("candidate"), parent=mean("parent"))


def _liked(examples: datasets.Dataset) -> npt.NDArray[np.bool_]:
    return np.asarray(examples["rating"] if len(examples) else [], dtype=np.int64) > 0


def _sample(examples: datasets.Dataset, limit: int) -> datasets.Dataset:
    """At most `limit` rows spread evenly over the set, chosen deterministically."""
    if len(examples) <= limit:
        return examples
    return examples.select(np.linspace(0, len(examples) - 1, limit).round().astype(np.int64))
