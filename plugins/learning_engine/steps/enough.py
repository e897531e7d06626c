"""The task `enough`: can a training on this feedback pass the gate? Also called by `extract` and the preflight.

It costs minutes to find out before a training and hours to find out after it. Tokenization drops rows too, which only
the training's worker can find out: the task `fisher` begins with `after_tokenization`.
"""

from collections import Counter
from dataclasses import dataclass

from learning_engine.config.settings import Settings
from learning_engine.records.contracts import Dataset
from learning_engine.steps.resources import Resources, get_staged, workspace

# Rows that are dropped for these reasons fit with a higher dataset.max_tokens.
TOO_LONG = {"answer_truncated", "prompt_too_long"}


@dataclass(frozen=True)
class Enough:
    """`why` compares what was found with what is needed."""

    passed: bool
    why: str


@dataclass(frozen=True)
class Left(Enough):
    """`rows` to train on, `heldout` conversations with a liked answer, and the rows `dropped`, by reason."""

    rows: int
    heldout: int
    dropped: dict[str, int]


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


def after_tokenization(resources: Resources, dataset: Dataset) -> Left:
    """Judge what tokenization leaves of the snapshot: a row to train on, and the conversations that the gate needs.

    Loads the base model's tokenizer, but no weights. Raises ModelError, DatasetError.
    """
    from learning_engine.feedback import heldout
    from learning_engine.feedback.dataset import encode
    from learning_engine.learning.base import load_tokenizer

    settings = resources.settings
    with workspace() as work:
        snapshot = work / "dataset.parquet"
        get_staged(resources, dataset.uri, snapshot, dataset.sha256)
        tokenizer = load_tokenizer(settings.model)
        trained = encode(snapshot, tokenizer, settings.dataset, heldout=False, to_train=True)
        judged = encode(snapshot, tokenizer, settings.dataset, heldout=True)
        conversations = heldout.conversations(snapshot)
    rated = zip(judged.examples["row"], judged.examples["rating"], strict=True)
    liked = {conversations[row] for row, rating in rated if rating > 0}
    dropped = dict(sorted((Counter(trained.dropped) + Counter(judged.dropped)).items()))
    return _left(settings, rows=len(trained.examples), heldout=len(liked), dropped=dropped)


def _left(settings: Settings, *, rows: int, heldout: int, dropped: dict[str, int]) -> Left:
    needed = settings.gate.min_heldout
    passed = rows > 0 and heldout >= needed
    reasons = ", ".join(f"{reason} {count}" for reason, count in dropped.items())
    why = (
        f"after tokenization {rows} rows to train on, 1 is needed; {heldout} held-out conversations with a liked "
        f"answer, the gate needs {needed}; dropped rows: {reasons or 'none'}"
    )
    if not passed:
        longer = "raise dataset.max_tokens, " if TOO_LONG & dropped.keys() else ""
        why = f"{why}: {longer}widen the window, or change dataset.heldout_fraction or gate.min_heldout"
    return Left(passed, why, rows, heldout, dropped)


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
