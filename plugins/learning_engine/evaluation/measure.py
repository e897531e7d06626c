"""Measure what a candidate learned from its window, and how its own answers changed."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt

from learning_engine.config import sections
from learning_engine.evaluation import drift, greedy, manners, metrics, sampling, slices, taught
from learning_engine.evaluation.figures import Drift, Learned, Lengths, finite
from learning_engine.evaluation.metrics import RowLosses
from learning_engine.evaluation.taught import Places
from learning_engine.evaluation.views import View, Views
from learning_engine.records.report import Manners, Sample


def learned(
    views: Views,
    heldout: datasets.Dataset,
    content: Places,
    settings: sections.Evaluation,
    *,
    values: slices.Values,
    min_conversations: int,
    seed: int,
) -> Learned:
    """Figures on the window's own held-out rows, at most `settings.max_rows`. `content` has their conversations, and
    the places of content; `values` are their slices, judged if at least `min_conversations` conversations have the
    value."""
    rows = sampling.sample(heldout, settings.max_rows)
    liked, indices = _liked(rows), _indices(rows)
    conversation = np.array([content.conversations[row] for row in indices], dtype=str)

    def losses(view: View) -> RowLosses:
        return metrics.row_losses(views, view, rows, batch_size=settings.batch_size)

    candidate, base = losses("candidate"), losses("base")
    parent = losses("parent") if views.has_parent else base
    marked, in_liked = content.mask(indices, candidate), np.repeat(liked, candidate.tokens)
    of_taught = taught.unsaid(parent, marked & in_liked)
    places_taught = taught.by_row(candidate, of_taught)
    judging = _judging(liked, conversation, places_taught, settings.earlier_rows)
    shares = partial(taught.content, content, indices, candidate=candidate, parent=parent, base=base)
    bootstrap = {"draws": settings.bootstrap, "seed": seed}
    measured = slices.Measured(indices, conversation, liked, of_taught, candidate, parent, base)
    return Learned(
        rows=len(rows),
        conversations=len(np.unique(conversation[liked])),
        loss=candidate[liked].mean(),
        loss_parent=parent[liked].mean(),
        loss_base=base[liked].mean(),
        gain_lower_bound=metrics.paired_bootstrap(candidate[liked], parent[liked], conversation[liked], **bootstrap),
        margin=metrics.margin(candidate, liked),
        margin_parent=metrics.margin(parent, liked),
        margin_growth=metrics.margin_growth(candidate, parent, liked, conversation, **bootstrap),
        disliked_rise=_difference(parent[~liked].mean(), candidate[~liked].mean()),
        taught=shares(of_taught),
        refused=shares(marked & ~in_liked),
        ends=shares(_last_tokens(candidate) & in_liked),
        places_taught=dict(zip(indices, places_taught, strict=True)),
        judging=np.array(indices)[judging].tolist(),
        sample=Sample(
            rows=int(judging.sum()),
            of=int(liked.sum()),
            loss=finite(candidate[judging].mean()),
            taught=taught.share(candidate[judging], of_taught[np.repeat(judging, candidate.tokens)]),
        ),
        slices=slices.of_window(values, measured, content, least=min_conversations, **bootstrap),
    )


def answers(views: Views, prompts: Sequence[Sequence[int]], settings: sections.Evaluation) -> tuple[Drift, Lengths]:
    """Drift on the parent's greedy answers to the rendered `prompts`, and the lengths of both models' answers.

    A first version's own answers are not generated, because no rule judges their length.
    """

    def answered(view: View) -> list[list[int]]:
        return greedy.answers(views, view, prompts, tokens=settings.answer_tokens, batch_size=settings.batch_size)

    of_parent = answered("parent")
    of_candidate = answered("candidate") if views.has_parent else []
    return (
        drift.on_prompts(views, prompts, of_parent, batch_size=settings.batch_size),
        Lengths(candidate=greedy.mean_length(of_candidate), parent=greedy.mean_length(of_parent)),
    )


def of_base(views: Views, anchor: datasets.Dataset | None, settings: sections.Evaluation) -> Manners:
    """What is left of the base in the held-out rows of the `anchor`; nothing measured without one."""
    if anchor is None:
        return Manners()
    return manners.of_base(views, sampling.sample(anchor, settings.max_rows), batch_size=settings.batch_size)


def _difference(of: float | None, other: float | None) -> float | None:
    return None if of is None or other is None else of - other


def _indices(examples: datasets.Dataset) -> list[int]:
    """The rows of the file that `examples` were encoded from."""
    return list(examples["row"]) if len(examples) else []


def _liked(examples: datasets.Dataset) -> npt.NDArray[np.bool_]:
    return np.asarray(examples["rating"] if len(examples) else [], dtype=np.int64) > 0


def _judging(
    liked: npt.NDArray[np.bool_], conversations: npt.NDArray[Any], taught_at: Sequence[Sequence[int]], limit: int
) -> npt.NDArray[np.bool_]:
    """Which rows will judge later versions, (rows,)."""
    rows, found = np.flatnonzero(liked), np.zeros(len(liked), dtype=bool)
    found[rows[sampling.judging(conversations[rows].tolist(), [bool(taught_at[int(row)]) for row in rows], limit)]] = (
        True
    )
    return found


def _last_tokens(losses: RowLosses) -> npt.NDArray[np.bool_]:
    """Marks the last supervised token of each row, which ends the turn; shaped as `losses.first`."""
    last = np.zeros(len(losses.first), dtype=bool)
    last[np.cumsum(losses.tokens)[losses.tokens > 0] - 1] = True
    return last
