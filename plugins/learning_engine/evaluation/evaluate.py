"""Evaluate a candidate: what it learned, retained and changed, the gate's verdict, and the probes that identify it."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import datasets

from learning_engine.config import sections
from learning_engine.evaluation import gate as gates
from learning_engine.evaluation import matrix, measure, slices
from learning_engine.evaluation import probes as probing
from learning_engine.evaluation.earlier import Earlier, kept
from learning_engine.evaluation.figures import Figures, finite
from learning_engine.evaluation.prompts import Messages, render
from learning_engine.evaluation.taught import Places
from learning_engine.evaluation.views import Views
from learning_engine.records.probe import Probe
from learning_engine.records.report import Manners, Report, Rule, Slice

# At most this many prompts are tried for probes: if none of them works, more hardly help.
MAX_CANDIDATES = 256


@dataclass(frozen=True)
class Evaluation:
    """`report.probes` is None: the caller stores `probes` and records their location in the report. `taught` are the
    places of taught tokens by held-out row, `judging` the rows by which later versions are judged."""

    report: Report
    probes: list[Probe]
    taught: dict[int, list[int]]
    judging: list[int]


def evaluate(
    *,
    views: Views,
    heldout: datasets.Dataset,
    content: Places,
    users: int | None,
    earlier: Earlier,
    contradicted: Mapping[str, Collection[int]] | None = None,
    anchor: datasets.Dataset | None,
    history: matrix.Rows,
    parent: Report | None = None,
    prompts: Sequence[Messages],
    probe_candidates: Sequence[Messages],
    evaluation: sections.Evaluation,
    gate: sections.Gate,
    broken_weights: int,
    unservable: str | None,
    run_key: str,
    seed: int,
    known: slices.Known | None = None,
) -> Evaluation:
    """Evaluate the candidate on the `heldout` rows of its window and on those of `earlier` versions.

    Losses are taken over liked rows, which the model should learn; disliked rows affect only the margin.
    `content` has the places of content in the `heldout` rows, and each row's conversation. `users` is the number of
    users who rated the window's rows, or None if unknown. `contradicted` has the rows of each earlier window that this
    window's feedback contradicts: no earlier figure is on the rows that are left. `anchor` has the anchor's held-out
    rows, if there is one. `history` has the ancestors' rows of the matrix R, `parent` is the parent's report.
    `broken_weights` counts the candidate's weights that are NaN or infinite. `unservable` is None, or the reason why
    the server would reject the adapter. Probes are searched among `probe_candidates`, then `prompts`. `known` has the
    slices of the held-out rows, if there are any.
    """
    known, contradicted = known or slices.Known(), contradicted or {}
    if contradicted:
        earlier = _without(earlier, contradicted)
        history = {version: _left(row, contradicted) for version, row in history.items()}
        known = replace(known, best=_left(known.best, contradicted))
    rendered = [render(views.tokenizer, messages) for messages in prompts]
    drift, lengths = measure.answers(views, rendered, evaluation)
    figures = Figures(
        learned=measure.learned(
            views,
            heldout,
            content,
            evaluation,
            values=known.window,
            min_conversations=gate.min_heldout,
            seed=seed,
        ),
        kept=kept(views, earlier, evaluation, known=known, min_conversations=gate.min_heldout),
        drift=drift,
        lengths=lengths,
        has_parent=views.has_parent,
        broken_weights=broken_weights,
        users=users,
        unservable=unservable,
        manners=measure.of_base(views, anchor, evaluation),
        parent=parent,
    )
    probes = probing.find(
        views,
        [*probe_candidates, *prompts][:MAX_CANDIDATES],
        count=evaluation.probes,
        tokens=evaluation.probe_tokens,
        margin=evaluation.probe_margin,
        batch_size=evaluation.batch_size,
    )
    parts, left_out = slices.judge(known.window, figures.learned.slices, figures.kept.slices, gate)
    notes = [
        *_notes(figures),
        *_superseded(contradicted),
        *slices.fallen(parts, gate, improved=_improved(figures)),
        *left_out,
    ]
    if not probes:
        notes.append(
            f"unproven: no prompt distinguishes this version from its parent and base by {evaluation.probe_margin:g} "
            "nats; a person must approve its deployment"
        )
    rules = gates.judge(figures, gate)
    report = _report(figures, rules, parts, history=history, run_key=run_key, notes=notes)
    report = replace(report, superseded={window: sorted(rows) for window, rows in contradicted.items()})
    return Evaluation(report, probes, figures.learned.places_taught, figures.learned.judging)


def _without(earlier: Earlier, contradicted: Mapping[str, Collection[int]]) -> Earlier:
    """Without the contradicted rows, and without the figures on them."""
    rows = {window: {*earlier.superseded.get(window, ()), *rows} for window, rows in contradicted.items()}
    return replace(
        earlier,
        superseded={**earlier.superseded, **rows},
        best=_left(earlier.best, contradicted),
        best_taught=_left(earlier.best_taught, contradicted),
    )


def _left(by_window: Mapping[str, Any], contradicted: Collection[str]) -> dict[str, Any]:
    return {window: figure for window, figure in by_window.items() if window not in contradicted}


def _improved(figures: Figures) -> bool:
    loss, before = finite(figures.learned.loss), finite(figures.learned.loss_parent)
    return loss is not None and before is not None and loss < before


def _notes(figures: Figures) -> list[str]:
    return [
        *(f"The held-out set of {version} is gone: its window is not judged." for version in figures.kept.missing),
        *(f"No version learned anything on the window of {v}: it is not judged." for v in figures.kept.nothing_learned),
        *(f"Left out, because it is not a finite number: {name}." for name in figures.not_finite()),
    ]


def _superseded(contradicted: Mapping[str, Collection[int]]) -> list[str]:
    return [
        f"This window contradicts {len(rows)} held-out answers of {window}: they judge nothing any more."
        for window, rows in contradicted.items()
    ]


def _report(
    figures: Figures,
    rules: list[Rule],
    parts: list[Slice],
    *,
    history: matrix.Rows,
    run_key: str,
    notes: list[str],
) -> Report:
    """The report. Figures that are not finite become None, because JSON has no NaN."""
    learned, kept = figures.learned, figures.kept
    loss, scores = finite(learned.loss), _measured(kept.scores)
    at_first = learned.sample.loss if learned.sample else loss
    return Report(
        run_key=run_key,
        heldout_rows=learned.rows,
        loss=loss,
        loss_parent=finite(learned.loss_parent),
        loss_base=finite(learned.loss_base),
        gain_lower_bound=finite(learned.gain_lower_bound),
        scores=scores,
        best=_measured(kept.best),
        base_scores=_measured(kept.base_scores),
        retained=_measured(kept.retained),
        drift_parent=finite(figures.drift.parent),
        drift_base=finite(figures.drift.base),
        margin=finite(learned.margin),
        margin_parent=finite(learned.margin_parent),
        rules=rules,
        accepted=gates.accepted(rules),
        probes=None,
        notes=notes,
        heldout_conversations=learned.conversations,
        drift_windows=_measured(kept.drift),
        length_ratio=finite(figures.lengths.ratio),
        matrix={version: dict(row) for version, row in history.items()},
        summary=matrix.summary(history, scores=scores, loss=at_first),
        taught=learned.taught,
        refused=learned.refused,
        kept=kept.content,
        disliked_rise=finite(learned.disliked_rise),
        manners=_without_nan(figures.manners),
        slices=parts,
        margin_growth=finite(learned.margin_growth),
        ends=learned.ends,
        sample=learned.sample,
    )


def _without_nan(manners: Manners) -> Manners:
    figures = (manners.left, manners.loss, manners.loss_base, manners.kl)
    return Manners(manners.conversations, *map(finite, figures))


def _measured(by_version: Mapping[str, float | None]) -> dict[str, float]:
    return {version: value for version, value in by_version.items() if value is not None and math.isfinite(value)}
