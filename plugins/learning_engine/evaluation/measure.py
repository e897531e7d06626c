"""Measure what a candidate learned from its window and retained of earlier ones."""

from collections.abc import Mapping, Sequence
from functools import partial

import datasets
import numpy as np
import numpy.typing as npt

from learning_engine.config import sections
from learning_engine.evaluation import drift, greedy, manners, metrics, retention, slices, taught
from learning_engine.evaluation.figures import Drift, Kept, Learned, Lengths
from learning_engine.evaluation.metrics import RowLosses
from learning_engine.evaluation.taught import Places
from learning_engine.evaluation.views import View, Views
from learning_engine.records.report import Manners


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
    """Figures on the window's own held-out rows. `content` has their conversations, and the places of content;
    `values` are their slices, judged if at least `min_conversations` conversations have the value."""
    rows = sample(heldout, settings.max_rows)
    liked, indices = _liked(rows), _indices(rows)
    conversation = np.array([content.conversations[row] for row in indices], dtype=str)

    def losses(view: View) -> RowLosses:
        return metrics.row_losses(views, view, rows, batch_size=settings.batch_size)

    candidate, base = losses("candidate"), losses("base")
    parent = losses("parent") if views.has_parent else base
    marked, in_liked = content.mask(indices, candidate), np.repeat(liked, candidate.tokens)
    of_taught = marked & in_liked & ~parent.first
    shares = partial(taught.content, content, indices, candidate=candidate, parent=parent, base=base)
    measured = slices.Measured(indices, conversation, liked, of_taught, candidate, parent, base)
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
        disliked_rise=_difference(parent[~liked].mean(), candidate[~liked].mean()),
        taught=shares(of_taught),
        refused=shares(marked & ~in_liked),
        places_taught=dict(zip(indices, taught.by_row(candidate, of_taught), strict=True)),
        slices=slices.of_window(
            values, measured, content, least=min_conversations, draws=settings.bootstrap, seed=seed
        ),
    )


def kept(
    views: Views,
    earlier: Mapping[str, datasets.Dataset],
    settings: sections.Evaluation,
    *,
    best: Mapping[str, float],
    missing: list[str],
    places: Mapping[str, Places],
    best_taught: Mapping[str, float],
    known: slices.Known,
    min_conversations: int,
) -> Kept:
    """Figures on the liked held-out rows of earlier windows: at most `settings.max_rows` of all together, but of each
    twice as many as a verdict needs, so that a year of windows hardly costs more than a month.

    `places` are those of what the windows taught, where they are known; a window, or a value of a slice in it, is
    judged by them if they come from at least `min_conversations` conversations.
    """
    size = settings.batch_size
    liked = {version: examples.select(np.flatnonzero(_liked(examples))) for version, examples in earlier.items()}
    most = max(settings.max_rows // max(1, len(liked)), 2 * min_conversations)
    rows = {version: sample(examples, most) for version, examples in liked.items() if len(examples)}

    def losses(view: View) -> dict[str, RowLosses]:
        return {v: metrics.row_losses(views, view, examples, batch_size=size) for v, examples in rows.items()}

    candidate, base = losses("candidate"), losses("base")
    scores, base_scores = ({v: of.mean() for v, of in view.items()} for view in (candidate, base))
    shares = retention.shares(scores, base_scores, best)
    content = {
        version: taught.kept(
            places[version],
            _indices(examples),
            candidate=candidate[version],
            base=base[version],
            best=best_taught.get(version),
            min_conversations=min_conversations,
        )
        for version, examples in rows.items()
        if version in places
    }
    judged = shares.keys() | {version for version, kept in content.items() if kept.retained is not None}
    return Kept(
        scores=scores,
        base_scores=base_scores,
        best={version: best[version] for version in rows if version in best},
        retained=shares,
        drift={version: drift.on_answers(views, examples, batch_size=size) for version, examples in rows.items()},
        content=content,
        nothing_learned=[version for version in earlier if version not in judged],
        missing=missing,
        slices={
            version: slices.of_earlier(
                known.earlier[version],
                _indices(examples),
                places[version],
                candidate=candidate[version],
                base=base[version],
                best=known.best.get(version, {}),
                least=min_conversations,
            )
            for version, examples in rows.items()
            if version in places and version in known.earlier
        },
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
    return manners.of_base(views, sample(anchor, settings.max_rows), batch_size=settings.batch_size)


def _difference(of: float | None, other: float | None) -> float | None:
    return None if of is None or other is None else of - other


def _indices(examples: datasets.Dataset) -> list[int]:
    """The rows of the file that `examples` were encoded from."""
    return list(examples["row"]) if len(examples) else []


def _liked(examples: datasets.Dataset) -> npt.NDArray[np.bool_]:
    return np.asarray(examples["rating"] if len(examples) else [], dtype=np.int64) > 0


def sample(examples: datasets.Dataset, limit: int) -> datasets.Dataset:
    """At most `limit` rows in their order, drawn alike each time; a lower limit gives some of the same rows."""
    if len(examples) <= limit:
        return examples
    return examples.select(np.sort(np.random.default_rng(0).permutation(len(examples))[:limit]))
