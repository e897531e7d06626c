"""The gate: which candidate may be deployed, rule by rule, each with its figure, its bound and a sentence why.

It fails closed: a figure that is missing or not finite fails its rule. Losses and KL are in nats per token.
"""

from learning_engine.config import sections
from learning_engine.evaluation.figures import Figures, finite
from learning_engine.records.report import Rule


def judge(figures: Figures, gate: sections.Gate) -> list[Rule]:
    """Every rule with its verdict; `drift_base` stands there only where it is configured."""
    rules = [_heldout(figures, gate), _users(figures, gate), _integrity(figures), _finite(figures)]
    rules += [_learned(figures, gate), _margin(figures, gate), _retained(figures, gate)]
    rules.append(_drift("drift", figures.drift.parent, gate.max_kl_parent, figures.reference))
    if gate.max_kl_base is not None:
        rules.append(_drift("drift_base", figures.drift.base, gate.max_kl_base, "the base model"))
    return [*rules, _length(figures, gate), _servable(figures)]


def accepted(rules: list[Rule]) -> bool:
    """Whether every rule is met; no rule at all is no verdict, and not accepted."""
    return bool(rules) and all(rule.passed for rule in rules)


def _heldout(figures: Figures, gate: sections.Gate) -> Rule:
    found, least = figures.learned.conversations, gate.min_heldout
    why = f"{found} conversations with liked held-out answers carry the verdict; at least {least} are needed."
    return Rule("heldout", float(found), ">=", float(least), found >= least, why)


def _users(figures: Figures, gate: sections.Gate) -> Rule:
    found, least = figures.users, gate.min_users
    if not found:
        asked = "more than one is asked for" if least > 1 else "one is enough"
        why = f"How many users are behind this window cannot be judged, because none is known; {asked}."
        return Rule("users", None, ">=", float(least), least <= 1, why)
    why = (
        f"{found} different {'user is' if found == 1 else 'users are'} behind this window; at least {least} are needed."
    )
    return Rule("users", float(found), ">=", float(least), found >= least, why)


def _integrity(figures: Figures) -> Rule:
    broken = figures.broken_weights
    found = f"{broken} of its weights are not finite numbers" if broken else "every weight in it is a finite number"
    return Rule(
        "integrity", float(broken), "<=", 0.0, not broken, f"The archive has the digest of its record; {found}."
    )


def _finite(figures: Figures) -> Rule:
    names = figures.not_finite()
    why = f"Not a finite number: {', '.join(names)}." if names else "Every figure is a finite number."
    return Rule("finite", float(len(names)), "<=", 0.0, not names, why)


def _learned(figures: Figures, gate: sections.Gate) -> Rule:
    gain, bound = finite(figures.learned.gain_lower_bound), 0.0 - gate.epsilon
    if gain is None:
        why = f"The gain over {figures.reference} on held-out liked answers could not be measured."
        return Rule("learned", None, ">=", bound, False, why)
    moved = f"fell by at least {gain:.3f}" if gain >= 0 else f"may have risen by {-gain:.3f}"
    allowed = f"a rise of {gate.epsilon:g} is allowed" if gate.epsilon else "it must not rise"
    why = (
        f"With 95 % confidence the loss on held-out liked answers {moved} nats a token "
        f"against {figures.reference}; {allowed}."
    )
    return Rule("learned", gain, ">=", bound, gain >= bound, why)


def _margin(figures: Figures, gate: sections.Gate) -> Rule:
    bound = 0.0 - gate.max_margin_loss
    margins = figures.learned.margin, figures.learned.margin_parent
    if None in margins:
        why = "Liked and disliked answers are not both held out, so that their margin is not judged."
        return Rule("margin", None, ">=", bound, True, why)
    candidate, parent = map(finite, margins)
    if candidate is None or parent is None:
        why = "The margin between liked and disliked held-out answers could not be measured."
        return Rule("margin", None, ">=", bound, False, why)
    change = candidate - parent
    why = (
        f"The margin between liked and disliked held-out answers {'grew' if change >= 0 else 'shrank'} by "
        f"{abs(change):.3f} nats a token against {figures.reference}; it may shrink by {gate.max_margin_loss:g}."
    )
    return Rule("margin", change, ">=", bound, change >= bound, why)


def _retained(figures: Figures, gate: sections.Gate) -> Rule:
    bound, aside = gate.min_retained, _set_aside(figures)
    measured = {version: finite(share) for version, share in figures.kept.retained.items()}
    if not measured:
        why = f"No earlier window can be judged.{aside}" if aside else "There is no earlier window yet."
        return Rule("retained", None, ">=", bound, True, why)
    shares = {version: share for version, share in measured.items() if share is not None}
    if absent := [version for version in measured if version not in shares]:
        why = f"What is kept of the window of {', '.join(absent)} could not be measured.{aside}"
        return Rule("retained", None, ">=", bound, False, why)
    worst = min(shares, key=lambda version: shares[version])
    why = (
        f"Of the best improvement on the window of {worst}, {shares[worst]:.0%} is kept, the least of {len(shares)} "
        f"earlier {'window' if len(shares) == 1 else 'windows'}; at least {bound:.0%} is asked.{aside}"
    )
    return Rule("retained", shares[worst], ">=", bound, shares[worst] >= bound, why)


def _set_aside(figures: Figures) -> str:
    """Which earlier windows are not judged, and why; empty where all are."""
    missing, nothing = figures.kept.missing, figures.kept.nothing_learned
    gone = f" The held-out set of {', '.join(missing)} is gone." if missing else ""
    return gone + (f" Nothing had been learned on the window of {', '.join(nothing)}." if nothing else "")


def _drift(name: str, figure: float | None, bound: float, reference: str) -> Rule:
    kl = finite(figure)
    if kl is None:
        why = f"The drift from {reference} on fixed prompts could not be measured."
        return Rule(name, None, "<=", bound, False, why)
    why = f"On fixed prompts the KL from {reference} is {kl:.3f} nats a token; at most {bound:g} is allowed."
    return Rule(name, kl, "<=", bound, kl <= bound, why)


def _length(figures: Figures, gate: sections.Gate) -> Rule:
    """Against the bound on the side to which the length moved; users may teach a base to be brief."""
    if not figures.has_parent:
        why = "There is no parent yet, and how much briefer or longer than the base to answer is for users to teach."
        return Rule("length", None, ">=", gate.min_length_ratio, True, why)
    ratio = finite(figures.lengths.ratio)
    if ratio is None:
        why = "The length of answers on fixed prompts could not be compared to that of the parent."
        return Rule("length", None, ">=", gate.min_length_ratio, False, why)
    shrank = ratio < 1
    bound = gate.min_length_ratio if shrank else gate.max_length_ratio
    why = (
        f"Greedy answers on fixed prompts are {ratio:.2f} times as long as those of the parent; "
        f"{gate.min_length_ratio:g} to {gate.max_length_ratio:g} times are allowed."
    )
    return Rule("length", ratio, ">=" if shrank else "<=", bound, ratio >= bound if shrank else ratio <= bound, why)


def _servable(figures: Figures) -> Rule:
    why = figures.unservable or "The adapter's shape is within what the model server takes."
    return Rule("servable", float(figures.unservable is None), ">=", 1.0, figures.unservable is None, why)
