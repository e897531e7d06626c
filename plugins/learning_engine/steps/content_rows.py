"""The places of content by which the task `evaluate` judges, from the window's snapshot and earlier held-out sets."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learning_engine.config import sections

if TYPE_CHECKING:
    from datasets import Dataset as Examples

    from learning_engine.evaluation.content import Row
    from learning_engine.evaluation.taught import Places

# Bounds the time of the search, which grows with both files.
COMPARED = 20_000


def of_training(snapshot: Path, tokenizer: Any, settings: sections.Dataset) -> "list[Row]":
    """The rows of `snapshot` that are not held out, at most COMPARED, drawn alike each time."""
    from learning_engine.evaluation import sampling
    from learning_engine.feedback.dataset import encode

    rows = sampling.sample(encode(snapshot, tokenizer, settings, heldout=False).examples, COMPARED)
    return of_file(snapshot, rows, tokenizer)


def of_file(file: Path, encoded: "Examples", tokenizer: Any) -> "list[Row]":
    """The `encoded` rows of `file`."""
    from learning_engine.evaluation import content
    from learning_engine.feedback import heldout

    return content.rows_of(tokenizer, encoded, heldout.questions(file))


def of_window(trained: "Sequence[Row]", heldout: Path, held: "Examples", tokenizer: Any, *, max_rows: int) -> "Places":
    """The places of content in the rows of the file `heldout`, compared with the rows `trained` on.

    `held` are the encoded rows of `heldout`. Only those that are measured are searched: at most `max_rows`, see
    `sampling.sample`.
    """
    from learning_engine.evaluation import content, sampling
    from learning_engine.evaluation.taught import Places
    from learning_engine.feedback import heldout as heldout_rows

    held = sampling.sample(held, max_rows)
    places = content.places(tokenizer, trained, of_file(heldout, held, tokenizer))
    return Places(heldout_rows.conversations(heldout), dict(zip(held["row"], places, strict=True)))


def of_earlier(files: Mapping[str, Path]) -> "dict[str, Places]":
    """The places of what earlier windows taught, by version, for those whose held-out set has them."""
    from learning_engine.evaluation.taught import Places
    from learning_engine.feedback import heldout as heldout_rows

    found = {version: (file, heldout_rows.taught(file)) for version, file in files.items()}
    return {
        version: Places(heldout_rows.conversations(file), taught, heldout_rows.judging(file))
        for version, (file, taught) in found.items()
        if taught is not None
    }


def contradicted(
    rated: "Sequence[Row]",
    files: Mapping[str, Path],
    earlier: "Mapping[str, Examples]",
    places: "Mapping[str, Places]",
    superseded: Mapping[str, Collection[int]],
    tokenizer: Any,
) -> dict[str, list[int]]:
    """The rows that judge earlier windows and that the rows `rated` in this one contradict, by version, without those
    that were `superseded` before. `files` are the held-out sets, `earlier` their encoded rows."""
    from learning_engine.evaluation import content

    found = {}
    for version, known in places.items():
        gone = superseded.get(version, ())
        judging = [row for row in (known.judging or ()) if row in known.places and row not in gone]
        held = earlier[version].filter(lambda row, judging=judging: row in judging, input_columns="row")
        rows = of_file(files[version], held, tokenizer)
        numbers = list(held["row"]) if len(held) else []
        against = content.contradicted(tokenizer, rated, rows, [known.places[row] for row in numbers])
        if any(against):
            found[version] = [row for row, contradicted in zip(numbers, against, strict=True) if contradicted]
    return found
