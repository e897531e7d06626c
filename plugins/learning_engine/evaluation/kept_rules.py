"""The gate's rules about what must not be lost: what earlier windows taught, and the base model's own behaviour.

A parent that failed such a rule was accepted by a person. It must not stop every later version, so its own figure is
the bound, until a version is within the configured one.
"""

import math

from learning_engine.evaluation.figures import Figures, finite
from learning_engine.records.report import Rule

# Two measurements of the base's loss that differ by more, relatively, are on different rows.
SAME_ROWS = 1e-2


def retained(figures: Figures, bound: float) -> Rule:
    """What is retained of what a window taught decides where that can be judged, otherwise its loss."""
    unjudged = _unjudged_windows(figures)
    taught = {v: content.retained for v, content in figures.kept.content.items() if content.retained is not None}
    by_loss = {version: finite(share) for version, share in figures.kept.retained.items()}
    measured: dict[str, float | None] = {**by_loss, **taught}
    if not measured:
        why = f"No earlier window can be judged.{unjudged}" if unjudged else "There is no earlier window yet."
        return Rule("retained", None, ">=", bound, True, why)
    shares = {version: share for version, share in measured.items() if share is not None}
    if absent := [version for version in measured if version not in shares]:
        why = f"The share retained of the window of {', '.join(absent)} could not be measured.{unjudged}"
        return Rule("retained", None, ">=", bound, False, why)
    worst = min(shares, key=lambda version: shares[version] - _allowed(figures, version, bound))
    bound, before = _allowed(figures, worst, bound), bound
    improvement = "what was learned from" if worst in taught else "the best improvement of the loss on"
    why = (
        f"Of {improvement} the window of {worst}, {shares[worst]:.0%} is retained, the least of "
        f"{len(shares)} earlier {'window' if len(shares) == 1 else 'windows'}; at least {bound:.0%} is needed"
        f"{_as_parent(bound < before)}.{_by_content(figures, worst)}{unjudged}"
    )
    return Rule("retained", shares[worst], ">=", bound, shares[worst] >= bound, why, vouched=bound < before)


def _allowed(figures: Figures, window: str, bound: float) -> float:
    """The minimum for `window`."""
    reached = figures.parent.shares_retained().get(window) if figures.parent and _vouched(figures, "retained") else None
    return bound if reached is None else min(bound, reached)


def _vouched(figures: Figures, name: str) -> bool:
    """Whether a person accepted the parent, or its parent, although the rule `name` failed."""
    rules = figures.parent.rules if figures.parent else []
    return any(rule.name == name and (rule.vouched or not rule.passed) for rule in rules)


def _as_parent(lenient: bool) -> str:
    return ", as of the parent, which a person accepted" if lenient else ""


def _by_content(figures: Figures, version: str) -> str:
    """The shares that decide about a window that is judged by what it taught."""
    content = figures.kept.content.get(version)
    if content is None or content.retained is None:
        return ""
    return (
        f" Of the phrases that it taught, the candidate says {content.candidate or 0:.0%}; the best version said "
        f"{content.best or 0:.0%}, the base model says {content.base or 0:.0%}."
    )


def _unjudged_windows(figures: Figures) -> str:
    """Which earlier windows are not judged, and why; empty if all are judged."""
    missing, nothing, superseded = figures.kept.missing, figures.kept.nothing_learned, figures.kept.superseded
    gone = f" The held-out set of {', '.join(missing)} is gone." if missing else ""
    gone += f" No version learned anything on the window of {', '.join(nothing)}." if nothing else ""
    return gone + (f" Later feedback contradicts all of {', '.join(superseded)}." if superseded else "")


def base(figures: Figures, max_rise: float, max_kl: float) -> Rule:
    """Shows the KL if it is above its bound, otherwise the rise of the loss."""
    manners = figures.manners
    if not manners.conversations:
        return Rule("base", None, "<=", max_rise, True, "There is no anchor by which the base could be judged.")
    loss, before, kl = map(finite, (manners.loss, manners.loss_base, manners.kl))
    if loss is None or before is None or kl is None or manners.left is None:
        return Rule("base", None, "<=", max_rise, False, "What is left of the base model could not be measured.")
    rise = loss - before
    rise_parent, kl_parent = _of_parent(figures)
    lenient = rise_parent > max_rise or kl_parent > max_kl
    max_rise, max_kl = max(max_rise, rise_parent), max(max_kl, kl_parent)
    figure, bound = (kl, max_kl) if kl > max_kl else (rise, max_rise)
    why = (
        f"In {manners.conversations} conversations of the base model, the loss of its own answers "
        f"{'rose' if rise >= 0 else 'fell'} by {abs(rise):.3f} nats per token to {loss:.3f}; it may rise by "
        f"{max_rise:.3g}. The KL from the base is {kl:.3f}; at most {max_kl:.3g} is allowed{_as_parent(lenient)}. "
        f"{manners.left:.0%} of the next tokens are still those that it would choose."
    )
    return Rule("base", figure, "<=", bound, figure <= bound, why, vouched=lenient)


def _of_parent(figures: Figures) -> tuple[float, float]:
    """The vouched-for parent's rise of the base's loss and its KL from the base; −∞ for any other parent, and if they
    were measured on other rows."""
    manners = figures.parent.manners if figures.parent and _vouched(figures, "base") else None
    if manners is None or manners.loss is None or manners.loss_base is None or manners.kl is None:
        return -math.inf, -math.inf
    if not math.isclose(manners.loss_base, figures.manners.loss_base or 0.0, rel_tol=SAME_ROWS):
        return -math.inf, -math.inf
    return manners.loss - manners.loss_base, manners.kl
