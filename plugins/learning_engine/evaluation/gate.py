"""The gate: rules that decide whether a candidate may be deployed, each with a figure, a bound and a reason.

It fails closed: a rule that applies fails if its figure is missing or not finite. Losses and KL are in nats per token.
"""

from learning_engine.config import sections
from learning_engine.evaluation import kept_rules
from learning_engine.evaluation.figures import Figures, finite
from learning_engine.records.report import Content, Rule

# A model that ends this share of answers where users liked the end must go on to end ENDS_LEFT of that.
ENDS_OFTEN, ENDS_LEFT = 0.2, 0.5
# Less than any figure is known to.
ROUNDING = 1e-9


def judge(figures: Figures, gate: sections.Gate) -> list[Rule]:
    """Every rule with its verdict; `taught`, `disliked`, `drift_base` and `base` only if they are configured."""
    rules = [_heldout(figures, gate), _users(figures, gate), _integrity(figures), _finite(figures)]
    rules.append(_learned(figures, gate))
    if gate.min_taught is not None:
        rules.append(_taught(figures, gate.min_taught, gate.min_heldout))
    rules.append(_margin(figures, gate))
    if gate.max_disliked_rise is not None:
        rules.append(_disliked(figures, gate.max_disliked_rise, gate.min_heldout))
    rules.append(kept_rules.retained(figures, gate.min_retained))
    rules.append(_drift("drift", figures.drift.parent, gate.max_kl_parent, figures.reference))
    if gate.max_kl_base is not None:
        rules.append(_drift("drift_base", figures.drift.base, gate.max_kl_base, "the base model"))
    if gate.max_base_rise is not None:
        rules.append(kept_rules.base(figures, gate.max_base_rise, gate.max_base_kl))
    return [*rules, _length(figures, gate), _ends(figures, gate.min_heldout), _servable(figures)]


def accepted(rules: list[Rule]) -> bool:
    """Whether every rule passed. Without any rule the candidate is not accepted."""
    return bool(rules) and all(rule.passed for rule in rules)


def _heldout(figures: Figures, gate: sections.Gate) -> Rule:
    found, least = figures.learned.conversations, gate.min_heldout
    why = f"The verdict is based on {found} conversations with liked held-out answers; at least {least} are needed."
    return Rule("heldout", float(found), ">=", float(least), found >= least, why)


def _users(figures: Figures, gate: sections.Gate) -> Rule:
    found, least = figures.users, gate.min_users
    if not found:
        needed = f"at least {least} are needed" if least > 1 else "one is enough"
        why = f"The number of users who rated this window is unknown; {needed}."
        return Rule("users", None, ">=", float(least), least <= 1, why)
    why = (
        f"{found} different {'user' if found == 1 else 'users'} rated this window's rows; at least {least} are needed."
    )
    return Rule("users", float(found), ">=", float(least), found >= least, why)


def _integrity(figures: Figures) -> Rule:
    broken = figures.broken_weights
    found = f"{broken} weights are not finite numbers" if broken else "every weight is a finite number"
    return Rule("integrity", float(broken), "<=", 0.0, not broken, f"The archive matches its recorded digest; {found}.")


def _finite(figures: Figures) -> Rule:
    names = figures.not_finite()
    why = f"Not a finite number: {', '.join(names)}." if names else "Every figure is a finite number."
    return Rule("finite", float(len(names)), "<=", 0.0, not names, why)


def _learned(figures: Figures, gate: sections.Gate) -> Rule:
    gain, bound = finite(figures.learned.gain_lower_bound), 0.0 - gate.epsilon
    if gain is None:
        why = f"The gain over {figures.reference} on held-out liked answers could not be measured."
        return Rule("learned", None, ">=", bound, False, why)
    moved = f"fell by at least {gain:.3f}" if gain >= 0 else f"rose by at most {-gain:.3f}"
    allowed = f"a rise of {gate.epsilon:g} is allowed" if gate.epsilon else "it must not rise"
    why = (
        f"With 95 % confidence the loss on held-out liked answers {moved} nats per token "
        f"against {figures.reference}; {allowed}."
    )
    return Rule("learned", gain, ">=", bound, gain >= bound, why)


def _taught(figures: Figures, bound: float, least: int) -> Rule:
    taught = figures.learned.taught
    if taught.candidate is None or taught.conversations < least:
        why = (
            f"What the window teaches is not judged: {_conversations(taught.conversations)} held out with a phrase "
            f"that answers on the same subject taught and {figures.reference} would not say; {least} are needed."
        )
        return Rule("taught", taught.candidate, ">=", bound, True, why)
    why = (
        f"Of {taught.places} phrases in held-out liked answers that answers on the same subject taught, the candidate "
        f"says {taught.candidate:.0%} ({_of_reference(figures, taught)}); at least {bound:.0%} are needed."
    )
    return Rule("taught", taught.candidate, ">=", bound, taught.candidate >= bound, why)


def _disliked(figures: Figures, bound: float, least: int) -> Rule:
    refused = figures.learned.refused
    if refused.candidate is None or refused.parent is None or refused.conversations < least:
        why = (
            "Whether the candidate says what users disliked is not judged: "
            f"{_conversations(refused.conversations)} held out with a phrase that only disliked answers on the same "
            f"subject say; {least} are needed."
        )
        return Rule("disliked", None, "<=", bound, True, why)
    rise = refused.candidate - refused.parent
    # One phrase more among few may be chance.
    bound = max(bound, 1 / refused.places)
    why = (
        f"Of {refused.places} phrases that only disliked answers on the same subject say, the candidate says "
        f"{refused.candidate:.0%} ({_of_reference(figures, refused)}); this share may rise by {bound:.2g}."
    )
    return Rule("disliked", rise, "<=", bound, rise <= bound + ROUNDING, why)


def _conversations(count: int) -> str:
    return f"{count} conversation{' is' if count == 1 else 's are'}"


def _of_reference(figures: Figures, content: Content) -> str:
    parent = f"the parent's: {content.parent or 0:.0%}, " if figures.has_parent else ""
    return f"{parent}the base model's: {content.base or 0:.0%}"


def _margin(figures: Figures, gate: sections.Gate) -> Rule:
    bound = 0.0 - gate.max_margin_loss
    margins = figures.learned.margin, figures.learned.margin_parent
    if None in margins:
        why = "The margin is not judged, because liked and disliked answers are not both held out."
        return Rule("margin", None, ">=", bound, True, why)
    candidate, parent = map(finite, margins)
    if candidate is None or parent is None:
        why = "The margin between liked and disliked held-out answers could not be measured."
        return Rule("margin", None, ">=", bound, False, why)
    change, growth = candidate - parent, finite(figures.learned.margin_growth)
    moved = (
        f"The margin between liked and disliked held-out answers {'grew' if change >= 0 else 'shrank'} by "
        f"{abs(change):.3f} nats per token against {figures.reference}"
    )
    if growth is None:
        why = f"{moved}. It is not judged: one conversation shows no variation between conversations.{_moved(figures)}"
        return Rule("margin", None, ">=", bound, True, why)
    surely = f"grew by at most {growth:.3f}" if growth >= 0 else f"shrank by at least {-growth:.3f}"
    why = f"{moved}; with 95 % confidence it {surely}, and it may shrink by {gate.max_margin_loss:g}.{_moved(figures)}"
    return Rule("margin", growth, ">=", bound, growth >= bound, why)


def _moved(figures: Figures) -> str:
    """How much likelier the disliked held-out answers became; a larger margin does not show it."""
    rise = finite(figures.learned.disliked_rise)
    if rise is None:
        return ""
    return f" Disliked answers became {abs(rise):.3f} nats per token {'likelier' if rise >= 0 else 'less likely'}."


def _drift(name: str, figure: float | None, bound: float, reference: str) -> Rule:
    kl = finite(figure)
    if kl is None:
        why = f"The drift from {reference} on answers to fixed prompts could not be measured."
        return Rule(name, None, "<=", bound, False, why)
    why = (
        f"On greedy answers to fixed prompts the KL from {reference} is {kl:.3f} nats per token; at most {bound:g} is "
        "allowed."
    )
    return Rule(name, kl, "<=", bound, kl <= bound, why)


def _length(figures: Figures, gate: sections.Gate) -> Rule:
    """Checks the lower or the upper bound, depending on whether answers became shorter or longer."""
    if not figures.has_parent:
        why = "There is no parent to compare with; users may teach shorter or longer answers than the base gives."
        return Rule("length", None, ">=", gate.min_length_ratio, True, why)
    ratio = finite(figures.lengths.ratio)
    if ratio is None:
        why = "The length of answers to fixed prompts could not be compared with that of the parent."
        return Rule("length", None, ">=", gate.min_length_ratio, False, why)
    shrank = ratio < 1
    bound = gate.min_length_ratio if shrank else gate.max_length_ratio
    why = (
        f"Greedy answers to fixed prompts are {ratio:.2f} times as long as those of the parent; "
        f"{gate.min_length_ratio:g} to {gate.max_length_ratio:g} times are allowed."
    )
    return Rule("length", ratio, ">=" if shrank else "<=", bound, ratio >= bound if shrank else ratio <= bound, why)


def _ends(figures: Figures, least: int) -> Rule:
    """Catches a model that never stops, whose answers are as long as the longest that `length` lets it give."""
    ends = figures.learned.ends
    before = ends.parent
    if ends.candidate is None or before is None or ends.conversations < least or before < ENDS_OFTEN:
        why = (
            f"Whether the candidate ends its answers is not judged: that needs {least} liked answers of which "
            f"{figures.reference} would end {ENDS_OFTEN:.0%} where they end."
        )
        return Rule("ends", ends.candidate, ">=", 0.0, True, why)
    bound = before * ENDS_LEFT
    why = (
        f"Of {ends.places} liked held-out answers, the candidate would end {ends.candidate:.0%} where they end, "
        f"{figures.reference} {before:.0%}; at least {bound:.0%} is needed."
    )
    return Rule("ends", ends.candidate, ">=", bound, ends.candidate >= bound, why)


def _servable(figures: Figures) -> Rule:
    why = figures.unservable or "The model server accepts the adapter's shape."
    return Rule("servable", float(figures.unservable is None), ">=", 1.0, figures.unservable is None, why)
