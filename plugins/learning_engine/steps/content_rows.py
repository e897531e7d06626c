"""The places of content by which the task `evaluate` judges, from the window's snapshot and earlier held-out sets."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learning_engine.config import sections

if TYPE_CHECKING:
    from datasets import Dataset as Examples

    from learning_engine.evaluation.taught import Places


# Bounds the time of the search, which grows with both files.
COMPARED = 20_000


def of_window(
    snapshot: Path, heldout: Path, held: "Examples", tokenizer: Any, settings: sections.Dataset, *, max_rows: int
) -> "Places":
    """The places of content in the rows of the file `heldout`, compared with the rows of `snapshot` to train on.

    `held` are the encoded rows of `heldout`. Only those that are measured are searched, at most `max_rows`, and
    compared with at most COMPARED rows; see `measure.sample`.
    """
    from learning_engine.evaluation import content, measure
    from learning_engine.evaluation.taught import Places
    from learning_engine.feedback import heldout as heldout_rows
    from learning_engine.feedback.dataset import encode

    training = measure.sample(encode(snapshot, tokenizer, settings, heldout=False).examples, COMPARED)
    held = measure.sample(held, max_rows)
    places = content.places(
        tokenizer,
        content.rows_of(tokenizer, training, heldout_rows.questions(snapshot)),
        content.rows_of(tokenizer, held, heldout_rows.questions(heldout)),
    )
    return Places(heldout_rows.conversations(heldout), dict(zip(held["row"], places, strict=True)))


def of_earlier(files: Mapping[str, Path]) -> "dict[str, Places]":
    """The places of what earlier windows taught, by version, for those whose held-out set has them."""
    from learning_engine.evaluation.taught import Places
    from learning_engine.feedback import heldout as heldout_rows

    found = {version: (file, heldout_rows.taught(file)) for version, file in files.items()}
    return {
        version: Places(heldout_rows.conversations(file), taught)
        for version, (file, taught) in found.items()
        if taught is not None
    }
