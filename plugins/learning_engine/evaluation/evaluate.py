"""Judge a candidate: what it learned, kept and changed, the gate's verdict, and the probes that will prove it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import datasets
import numpy as np
import numpy.typing as npt

from learning_engine import sections
from learning_engine.contracts import Report, Rule
from learning_engine.evaluation import gate as gates
from learning_engine.evaluation import metrics, retention
from learning_engine.evaluation import probes as probing
from learning_engine.evaluation.figures import Figures, Kept, Learned, finite
from learning_engine.evaluation.metrics import RowLosses
from learning_engine.evaluation.prompts import Messages, render
from learning_engine.evaluation.views import View, Views
from learning_engine.probe import Probe

# Prompts tried for probes, the first ones given: where none of them tells, more will hardly.
MAX_CANDIDATES = 256


@dataclass(frozen=True)
class Evaluation:
    """`report.probes` is None: the caller stores `probes` and puts their place into the report."""

    report: Report
    probes: list[Probe]


def evaluate(
    *,
    views: Views,
    heldout: datasets.Dataset,
    earlier: dict[str, datasets.Dataset],
    missing: list[str],
    best: dict[str, float],
    prompts: Sequence[Messages],
    probe_candidates: Sequence[Messages],
    evaluation: sections.Evaluation,
    gate: sections.Gate,
    servable: str | None,
    run_key: str,
    seed: int,
) -> Evaluation:
    """Judge the candidate on its window's `heldout` rows and on those of `earlier` versions' windows.

    Losses are taken over liked rows, which are what the model is to learn; disliked ones enter the margin alone.
    `missing` names the versions whose held-out set is gone, `best` the lowest loss that any version reached on each
    earlier set, `servable` is None or the reason why the server would refuse the adapter. Probes are looked for among
    `probe_candidates`, then `prompts`.
    """
    rendered = [render(views.tokenizer, messages) for messages in prompts]
    figures = Figures(
        learned=_learned(views, heldout, evaluation, seed=seed),
        kept=_kept(views, earlier, evaluation, best=best, missing=missing),
        drift=metrics.kl(views, rendered, batch_size=evaluation.batch_size),
        has_parent=views.has_parent,
        unservable=servable,
    )
    probes = probing.find(
        views,
        [*probe_candidates, *prompts][:MAX_CANDIDATES],
        count=evaluation.probes,
        tokens=evaluation.probe_tokens,
        margin=evaluation.probe_margin,
        batch_size=evaluation.batch_size,
    )
    notes = _notes(figures)
    if not probes:
        notes.append(
            f"unproven: no prompt tells this version from its parent and its base by {evaluation.probe_margin:g} nats; "
            "deploying it needs a person"
        )
    return Evaluation(_report(figures, gates.judge(figures, gate), run_key=run_key, notes=notes), probes)


def _learned(views: Views, heldout: datasets.Dataset, evaluation: sections.Evaluation, *, seed: int) -> Learned:
    rows = _sample(heldout, evaluation.max_rows)
    liked = _liked(rows)

    def losses(view: View) -> RowLosses:
        return metrics.row_losses(views, view, rows, batch_size=evaluation.batch_size)

    candidate, base = losses("candidate"), losses("base")
    parent = losses("parent") if views.has_parent else base
    return Learned(
        rows=len(rows),
        liked=int(liked.sum()),
        loss=candidate[liked].mean(),
        loss_parent=parent[liked].mean(),
        loss_base=base[liked].mean(),
        gain_lower_bound=metrics.paired_bootstrap(
            candidate[liked], parent[liked], draws=evaluation.bootstrap, seed=seed
        ),
        margin=metrics.margin(candidate, liked),
        margin_parent=metrics.margin(parent, liked),
    )


def _kept(
    views: Views,
    earlier: dict[str, datasets.Dataset],
    evaluation: sections.Evaluation,
    *,
    best: dict[str, float],
    missing: list[str],
) -> Kept:
    liked = {version: examples.select(np.flatnonzero(_liked(examples))) for version, examples in earlier.items()}
    rows = {version: _sample(examples, evaluation.max_rows) for version, examples in liked.items() if len(examples)}

    def scores(view: View) -> dict[str, float | None]:
        size = evaluation.batch_size
        return {v: metrics.row_losses(views, view, examples, batch_size=size).mean() for v, examples in rows.items()}

    candidate, base = scores("candidate"), scores("base")
    kept = retention.shares(candidate, base, best)
    return Kept(
        scores=candidate,
        base_scores=base,
        best={version: best[version] for version in rows if version in best},
        retained=kept,
        nothing_learned=[version for version in earlier if version not in kept],
        missing=missing,
    )


def _liked(examples: datasets.Dataset) -> npt.NDArray[np.bool_]:
    return np.asarray(examples["rating"] if len(examples) else [], dtype=np.int64) > 0


def _sample(examples: datasets.Dataset, limit: int) -> datasets.Dataset:
    """At most `limit` rows spread evenly over the set, the same ones each time."""
    if len(examples) <= limit:
        return examples
    return examples.select(np.linspace(0, len(examples) - 1, limit).round().astype(np.int64))


def _notes(figures: Figures) -> list[str]:
    kept = figures.kept
    return [
        *(f"The held-out set of {version} is gone: its window is not judged." for version in kept.missing),
        *(f"Nothing had been learned on the window of {v}: it is not judged." for v in kept.nothing_learned),
        *(f"Not a finite number, and left out: {name}." for name in figures.not_finite()),
    ]


def _report(figures: Figures, rules: list[Rule], *, run_key: str, notes: list[str]) -> Report:
    """The record; a figure that is not finite is None there, because JSON has no NaN."""
    learned, kept = figures.learned, figures.kept
    return Report(
        run_key=run_key,
        heldout_rows=learned.rows,
        loss=finite(learned.loss),
        loss_parent=finite(learned.loss_parent),
        loss_base=finite(learned.loss_base),
        gain_lower_bound=finite(learned.gain_lower_bound),
        scores=_measured(kept.scores),
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
    )


def _measured(by_version: Mapping[str, float | None]) -> dict[str, float]:
    return {version: value for version, value in by_version.items() if value is not None and math.isfinite(value)}
