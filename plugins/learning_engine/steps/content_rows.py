"""The places of content by which the task `evaluate` judges, from the window's snapshot and earlier held-out sets."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learning_engine.config import sections

if TYPE_CHECKING:
    from learning_engine.evaluation.content import Row
    from learning_engine.evaluation.taught import Places


def of_window(snapshot: Path, heldout: Path, tokenizer: Any, settings: sections.Dataset) -> "Places":
    """The places of content in the rows of the file `heldout`, compared with the rows of `snapshot` to train on."""
    from learning_engine.evaluation import content
    from learning_engine.evaluation.taught import Places
    from learning_engine.feedback import heldout as heldout_rows
    from learning_engine.feedback.dataset import encode

    def rows(file: Path, which: bool | None) -> "tuple[list[int], list[Row]]":
        examples = encode(file, tokenizer, settings, heldout=which).examples
        return list(examples["row"]), content.rows_of(tokenizer, examples, heldout_rows.questions(file))

    _, training = rows(snapshot, False)
    indices, held = rows(heldout, None)
    places = content.places(tokenizer, training, held)
    return Places(heldout_rows.conversations(heldout), dict(zip(indices, places, strict=True)))


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
