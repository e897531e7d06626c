"""The parts of a model card that show the evaluation report: gate, notes, losses, figures, matrix R and slices."""

from collections.abc import Sequence

from learning_engine.records.contracts import AdapterVersion
from learning_engine.records.report import Content, Rule, Slice
from learning_engine.registry.markdown import cell, literal, number, share, table

# Maximum number of versions of the matrix R in the card; the metadata hold all of them.
MATRIX = 12


def gate(rules: Sequence[Rule]) -> str:
    if not rules:
        return "No rule was evaluated."
    signs = {">=": "≥", "<=": "≤"}
    return table(
        ("", "Rule", "Figure", "Bound", ""),
        [
            (
                "✅" if rule.passed else "❌",
                cell(rule.name),
                number(rule.figure),
                f"{signs[rule.comparison]} {rule.bound:g}",
                cell(rule.why),
            )
            for rule in rules
        ],
        right=(2, 3),
    )


def notes(notes: Sequence[str]) -> str:
    return "\n".join(f"- {literal(note)}" for note in notes)


def losses(version: AdapterVersion) -> str:
    report = version.report
    earlier = [name for name in report.scores if name != version.version]
    retained, taught = report.shares_retained(), {name: kept.candidate for name, kept in report.kept.items()}
    now = share(report.taught.candidate)
    rows = [
        ("this window", number(report.loss), number(report.loss_base), number(report.loss_parent), now, "", ""),
        *(
            (
                f"{name}'s window",
                number(report.scores[name]),
                number(report.base_scores.get(name)),
                number(report.best.get(name)),
                share(taught.get(name)),
                share(retained.get(name)),
                number(report.drift_windows.get(name)),
            )
            for name in earlier
        ),
    ]
    head = ("Held-out feedback of", "This version", "Base", "Parent or best", "Taught", "Kept", "Drift")
    return table(head, rows, right=range(1, len(head)))


def figures(version: AdapterVersion) -> str:
    report = version.report
    probes = report.probes
    rows = [
        ("Gain over the parent, 95 % lower bound", number(report.gain_lower_bound), "nats per token"),
        ("Drift from the parent (KL)", number(report.drift_parent), "nats per token"),
        ("Drift from the base model (KL)", number(report.drift_base), "nats per token"),
        ("Length of greedy answers", number(report.length_ratio), "times the parent's"),
        ("Liked minus disliked margin", number(report.margin), f"parent: {number(report.margin_parent)}"),
        ("Disliked answers became likelier by", number(report.disliked_rise), "nats per token than under the parent"),
        ("Taught phrases that it says", share(report.taught.candidate), _of_places(report.taught)),
        ("Disliked phrases that it says", share(report.refused.candidate), _of_places(report.refused)),
        ("Liked answers that it would end where they end", share(report.ends.candidate), _of_places(report.ends)),
        ("Probes", str(probes.count if probes else 0), _proof(probes.smallest_margin) if probes else "unproven"),
        ("Held-out rows", f"{report.heldout_rows:,}", _of_conversations(report.heldout_conversations)),
        ("Learned: mean loss on each window right after it", number(report.summary.learned), "nats per token"),
        ("Forgotten since the best of each window", number(report.summary.forgotten), "nats per token"),
        ("Backward transfer to earlier windows", number(report.summary.backward_transfer), "nats per token"),
    ]
    return table(("Figure", "", ""), rows, right=(1,))


def _of_places(content: Content) -> str:
    if not content.places:
        return "none is held out"
    return f"of {content.places:,}; parent: {share(content.parent)}, base: {share(content.base)}"


def _of_conversations(count: int | None) -> str:
    return "" if count is None else f"{count:,} conversations with liked answers"


def matrix(version: AdapterVersion) -> str:
    """R, with one row per version and one column per window; empty for a first version."""
    report = version.report
    loss = report.sample.loss if report.sample else report.loss
    own = {} if loss is None else {version.version: loss}
    if not report.matrix:
        return ""
    rows = {**report.matrix, version.version: {**report.scores, **own}}
    windows = list(rows)[-MATRIX:]
    cells = [(name, *(number(rows[name].get(window)) for window in windows)) for name in windows]
    matrix = table(("R", *(f"{name}'s window" for name in windows)), cells, right=range(1, len(windows) + 1))
    return f"Loss of each version (row) on the held-out feedback of each window (column):\n\n{matrix}"


def slices(slices: Sequence[Slice]) -> str:
    if not slices:
        return ""
    head = ("Slice", "Conversations", "This version", "Parent", "Base", "Margin", "Parent margin", "Taught", "Kept", "")
    rows = [
        (
            literal(part.label),
            f"{part.conversations:,}",
            number(part.loss),
            number(part.loss_parent),
            number(part.loss_base),
            number(part.margin),
            number(part.margin_parent),
            share(part.taught.candidate),
            share(part.retained),
            "fell" if part.fell else "",
        )
        for part in slices
    ]
    about = (
        "The same by slice, for values with enough held-out conversations. *Kept* is the mean over the earlier windows "
        "where it can be judged. No rule judges by slices."
    )
    return f"{about}\n\n{table(head, rows, right=range(1, len(head) - 1))}"


def _proof(margin: float) -> str:
    return f"each by at least {margin:.2f} nats"
