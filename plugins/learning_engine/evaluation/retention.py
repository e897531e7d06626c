"""How much of what earlier windows taught a candidate keeps, from losses in nats per token.

Retained share of a window: (L_base − L_candidate) / (L_base − L_best), L_best the lowest loss that any version reached
on that window's held-out rows, so that small losses cannot add up week by week unseen. 1 keeps all of it, 0 is the base
model, below 0 is worse than the base, above 1 is better than any version before; never clipped.
"""

from collections.abc import Mapping

from learning_engine.evaluation.figures import finite

# Below this improvement over the base, in nats per token, a window taught nothing and its share would be noise.
NOTHING_LEARNED = 0.02


def shares(
    scores: Mapping[str, float | None], base_scores: Mapping[str, float | None], best: Mapping[str, float]
) -> dict[str, float | None]:
    """The share of each version's window in `scores`; None where a loss is missing or not finite.

    A window on which no version improved on the base by NOTHING_LEARNED cannot be judged and is left out.
    """
    kept: dict[str, float | None] = {}
    for version in scores:
        candidate, base, reached = (finite(losses.get(version)) for losses in (scores, base_scores, best))
        if candidate is None or base is None or reached is None:
            kept[version] = None
        elif base - reached > NOTHING_LEARNED:
            kept[version] = (base - candidate) / (base - reached)
    return kept
