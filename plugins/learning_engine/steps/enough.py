"""The task `enough`: can a training on this feedback pass the gate? Also called by the preflight.

It costs minutes to find out before a training and hours to find out after it.
"""

from dataclasses import dataclass

from learning_engine.config.settings import Settings


@dataclass(frozen=True)
class Enough:
    """`why` compares what was found with what is needed."""

    passed: bool
    why: str


def enough(settings: Settings, *, rows: int, heldout: int | None) -> Enough:
    """Judge `rows`, and the held-out conversations with a liked answer, by which the gate will judge the candidate.

    `heldout` is None in records of older versions, which did not count them.
    """
    needed, judged = settings.feedback.min_samples, settings.gate.min_heldout
    counted = f"{rows} rows, {needed} are needed"
    if rows < needed or heldout is None or heldout >= judged:
        return Enough(rows >= needed, counted)
    return Enough(
        False,
        f"{counted}; {heldout} held-out conversations with a liked answer, the gate needs {judged}: widen the window, "
        "or change dataset.heldout_fraction or gate.min_heldout",
    )
