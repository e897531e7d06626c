"""The task `enough`: can a training on this feedback pass the gate? Also called by `extract` and the preflight.

It costs minutes to find out before a training and hours to find out after it.
"""

from dataclasses import dataclass

from learning_engine.config.settings import Settings


@dataclass(frozen=True)
class Enough:
    """`why` compares what was found with what is needed."""

    passed: bool
    why: str


def enough(settings: Settings, *, rows: int, heldout: int | None, users: int | None) -> Enough:
    """Judge what the gate will judge by: `rows`, the held-out conversations with a liked answer, and the users.

    `heldout` is None in records of older versions, which did not count them; `users` is None or 0 if they are unknown.
    """
    needed = settings.feedback.min_samples
    found = f"{rows} rows, {needed} are needed"
    if rows < needed:
        return Enough(False, found)
    missing = [*_heldout(settings, heldout), *_users(settings, users)]
    return Enough(not missing, "; ".join([found, *missing]))


def _heldout(settings: Settings, found: int | None) -> list[str]:
    needed = settings.gate.min_heldout
    if found is None or found >= needed:
        return []
    return [
        f"{found} held-out conversations with a liked answer, the gate needs {needed}: widen the window, or change "
        "dataset.heldout_fraction or gate.min_heldout"
    ]


def _users(settings: Settings, found: int | None) -> list[str]:
    needed = settings.gate.min_users
    if max(found or 0, 1) >= needed:
        return []
    if not found:
        return [f"the users are unknown, the gate needs {needed}: set feedback.columns.user, or gate.min_users to 1"]
    who = "user" if found == 1 else "different users"
    return [f"{found} {who}, the gate needs {needed}: widen the window, or change gate.min_users"]
