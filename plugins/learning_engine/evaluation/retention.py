"""The share of earlier windows' improvement that a candidate retains, from losses in nats per token.

Retained share of a window: (L_base − L_candidate) / (L_base − L_best), where L_best is the lowest loss that any version
reached on that window's held-out rows; comparing with the best reveals small losses that add up over weeks.
1 means all is retained, 0 equals the base model, below 0 is worse than the base, above 1 is better than any earlier
version. The share is never clipped.
"""

from collections.abc import Mapping

from learning_engine.evaluation.figures import finite

# If the best improvement over the base is at most this, in nats per token, the share would be noise.
NOTHING_LEARNED = 0.02


def shares(
    scores: Mapping[str, float | None], base_scores: Mapping[str, float | None], best: Mapping[str, float]
) -> dict[str, float | None]:
    """The retained share of each window in `scores`, by version; None if a loss is missing or not finite.

    A window on which no version improved on the base by more than NOTHING_LEARNED cannot be judged and is left out.
    """
    kept: dict[str, float | None] = {}
    for version in scores:
        candidate, base, reached = (finite(losses.get(version)) for losses in (scores, base_scores, best))
        if candidate is None or base is None or reached is None:
            kept[version] = None
        elif base - reached > NOTHING_LEARNED:
            kept[version] = (base - candidate) / (base - reached)
    return kept
