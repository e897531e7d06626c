"""Measure what a candidate retained of earlier windows, on the rows that were chosen to judge later versions."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import datasets

from learning_engine.config import sections
from learning_engine.evaluation import drift, metrics, retention, sampling, slices, taught
from learning_engine.evaluation.figures import Kept
from learning_engine.evaluation.metrics import RowLosses
from learning_engine.evaluation.taught import Places
from learning_engine.evaluation.views import View, Views

# A parent's share below this says too little about the best.
LEAST = 0.1


@dataclass(frozen=True)
class Earlier:
    """What is known of earlier windows, by version: the held-out rows, encoded, and the `places` of what they taught;
    the lowest loss, `best`, and the highest share of taught phrases, `best_taught`, that any ancestor reached on the
    rows that judge; the `superseded` rows, which judge nothing; and the shares that the parent `retained`. `missing`
    names versions whose held-out set is gone."""

    rows: Mapping[str, datasets.Dataset] = field(default_factory=dict)
    places: Mapping[str, Places] = field(default_factory=dict)
    best: Mapping[str, float] = field(default_factory=dict)
    best_taught: Mapping[str, float] = field(default_factory=dict)
    superseded: Mapping[str, Collection[int]] = field(default_factory=dict)
    retained: Mapping[str, float] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def kept(
    views: Views, earlier: Earlier, settings: sections.Evaluation, *, known: slices.Known, min_conversations: int
) -> Kept:
    """Figures on the liked held-out rows that judge each earlier window.

    A window, or a value of a slice in it, is judged by what it taught if that comes from at least `min_conversations`
    conversations. Where no ancestor's figures are on the same rows, see `_restarted`.
    """
    chosen = {version: _to_judge(earlier, version, settings.earlier_rows) for version in earlier.rows}
    rows = {version: examples for version, examples in chosen.items() if len(examples)}

    def losses(view: View, versions: Collection[str]) -> dict[str, RowLosses]:
        return {v: metrics.row_losses(views, view, rows[v], batch_size=settings.batch_size) for v in versions}

    candidate, base = losses("candidate", rows), losses("base", rows)
    parent = losses("parent" if views.has_parent else "base", list(_unknown(earlier, rows)))
    best, best_taught = _restarted(earlier, rows, parent, base)
    scores, base_scores = ({v: of.mean() for v, of in view.items()} for view in (candidate, base))
    shares = retention.shares(scores, base_scores, best)
    content = {
        version: taught.kept(
            earlier.places[version],
            examples["row"][:],
            candidate=candidate[version],
            base=base[version],
            best=best_taught.get(version),
            min_conversations=min_conversations,
        )
        for version, examples in rows.items()
        if version in earlier.places
    }
    gone = [version for version in earlier.rows if version not in rows and earlier.superseded.get(version)]
    judged = shares.keys() | {version for version, kept in content.items() if kept.retained is not None}
    return Kept(
        scores=scores,
        base_scores=base_scores,
        best={version: best[version] for version in rows if version in best},
        retained=shares,
        drift={v: drift.on_answers(views, examples, batch_size=settings.batch_size) for v, examples in rows.items()},
        content=content,
        nothing_learned=[version for version in earlier.rows if version not in judged and version not in gone],
        superseded=gone,
        missing=earlier.missing,
        slices={
            version: slices.of_earlier(
                known.earlier[version],
                examples["row"][:],
                earlier.places[version],
                candidate=candidate[version],
                base=base[version],
                best=known.best.get(version, {}),
                least=min_conversations,
            )
            for version, examples in rows.items()
            if version in earlier.places and version in known.earlier
        },
    )


def _to_judge(earlier: Earlier, version: str, limit: int) -> datasets.Dataset:
    """The liked rows that judge a window: those chosen at its publication, or of older versions `limit` by chance."""
    examples, places = earlier.rows[version], earlier.places.get(version)
    chosen, gone = places.judging if places else None, earlier.superseded.get(version, ())
    if not len(examples):
        return examples
    wanted = [
        place
        for place, (row, rating) in enumerate(zip(examples["row"][:], examples["rating"][:], strict=True))
        if rating > 0 and row not in gone and (chosen is None or row in chosen)
    ]
    rows = examples.select(wanted)
    return sampling.sample(rows, limit) if chosen is None else rows


def _unknown(earlier: Earlier, versions: Collection[str]) -> Iterator[str]:
    """The windows for which the best loss, or the best share of what they taught, is not known on their rows."""
    for version in versions:
        teaches = version in earlier.places and any(earlier.places[version].places.values())
        if version not in earlier.best or (teaches and version not in earlier.best_taught):
            yield version


def _restarted(
    earlier: Earlier,
    rows: Mapping[str, datasets.Dataset],
    parent: Mapping[str, RowLosses],
    base: Mapping[str, RowLosses],
) -> tuple[dict[str, float], dict[str, float]]:
    """The best loss and share of each window; where they are not known, what the parent's figures imply.

    Later feedback contradicted some rows, or the version is older than the choice of rows. The best is then set such
    that the parent retains as much of it on the rows that are left as its report says, so that a change of rows neither
    excuses what was lost nor blames the candidate for it.
    """
    best, best_taught = dict(earlier.best), dict(earlier.best_taught)
    for version, losses in parent.items():
        share = min(1.0, max(LEAST, earlier.retained.get(version, 1.0)))
        now, before = losses.mean(), base[version].mean()
        if version not in best and now is not None and before is not None:
            best[version] = before + (now - before) / share
        if version in best_taught or version not in earlier.places:
            continue
        mask = earlier.places[version].mask(rows[version]["row"][:], losses)
        said, said_by_base = taught.share(losses, mask), taught.share(base[version], mask)
        if said is not None and said_by_base is not None:
            best_taught[version] = min(1.0, said_by_base + (said - said_by_base) / share)
    return best, best_taught
