"""Figures by slice: what fell while the whole improved, what is retained of earlier windows, and what is left out."""

import json
from dataclasses import replace
from typing import Any

import datasets
import numpy as np
import pytest

from learning_engine.config import sections
from learning_engine.evaluation import slices
from learning_engine.evaluation.figures import EarlierSlice, Key
from learning_engine.evaluation.metrics import RowLosses, row_losses
from learning_engine.evaluation.slices import Best, Known
from learning_engine.evaluation.taught import Places
from learning_engine.evaluation.views import Views
from learning_engine.records.report import Content, Report, Slice
from tests.evaluation.conftest import FIRST, SECOND, encode
from tests.evaluation.test_evaluate import GATE, judged

ENGLISH, GERMAN = ("language", "en"), ("language", "de")
LANGUAGES = ["en"] * 4 + ["de"] * 4
NAMES = [f"conversation {row}" for row in range(8)]


def by_key(report: Report) -> dict[Key, Slice]:
    return {(part.name, part.value): part for part in report.slices}


def sliced(views: Views, known: Known, **changes: Any) -> Report:
    """The candidate learned SECOND, asked in English, and forgot some of FIRST, which its parent knew, in German."""
    asked = [encode(views.tokenizer, lesson) for lesson in (SECOND, FIRST)]
    heldout = datasets.concatenate_datasets(asked).remove_columns("row").add_column("row", list(range(8)))
    arguments = {"heldout": heldout, "content": Places(NAMES, {row: [0] for row in range(4)}), "known": known}
    return judged(views, **(arguments | changes)).report


def test_a_slice_that_fell_while_the_whole_improved_is_named(views: Views) -> None:
    report = sliced(views, Known(window={"language": LANGUAGES}))
    assert report.loss < report.loss_parent
    english, german = by_key(report)[ENGLISH], by_key(report)[GERMAN]
    assert (english.fell, german.fell) == (False, True)
    rows = encode(views.tokenizer, FIRST)
    losses = {view: row_losses(views, view, rows, batch_size=16).mean() for view in ("candidate", "parent", "base")}
    assert (german.loss, german.loss_parent, german.loss_base) == pytest.approx(tuple(losses.values()), rel=1e-5)
    assert 0 < german.rise_lower_bound <= german.loss - german.loss_parent
    assert english.rise_lower_bound < 0
    (note,) = (note for note in report.notes if "fell" in note)
    assert note == (
        f"language=de fell: loss {german.loss_parent:.3f} → {german.loss:.3f} on 4 conversations, while the whole "
        "improved."
    )
    assert report.accepted == sliced(views, Known()).accepted, "slices inform, they never reject"
    assert sliced(views, Known()).slices == []


def test_margin_and_taught_content_are_those_of_the_slice(views: Views) -> None:
    liked, disliked = (
        encode(views.tokenizer, SECOND),
        encode(views.tokenizer, dict.fromkeys(SECOND, "white"), rating=-1),
    )
    rows = datasets.concatenate_datasets([liked, disliked, encode(views.tokenizer, FIRST)])
    rows = rows.remove_columns("row").add_column("row", list(range(12)))
    known = Known(window={"language": ["en"] * 8 + ["de"] * 4})
    # The place of the colour, which the parent does not know; of the German rows none is known to be content.
    colour = {row: [len(views.tokenizer.encode("The house is", add_special_tokens=False))] for row in range(4)}
    places = Places([f"conversation {row}" for row in range(12)], colour)
    found = by_key(sliced(views, known, heldout=rows, content=places))
    losses = [row_losses(views, "candidate", examples, batch_size=16).mean() for examples in (disliked, liked)]
    assert found[ENGLISH].margin == pytest.approx(losses[0] - losses[1], rel=1e-5)
    assert found[ENGLISH].margin > found[ENGLISH].margin_parent
    assert (found[ENGLISH].taught.conversations, found[ENGLISH].taught.candidate) == (4, 1.0)
    assert found[GERMAN].margin is None
    assert found[GERMAN].taught == Content()


def test_what_is_retained_is_measured_against_the_best_on_the_same_value(views: Views) -> None:
    """Of the earlier window's rows, two are German; a version that reached 0.1 on them is the measure for these."""
    values = {"language": ["de", "de", "en", "en"]}
    known = Known(window={"language": LANGUAGES}, earlier={"v1.0": values}, best={"v1.0": {GERMAN: Best(0.1, None)}})
    gate = GATE.model_copy(update={"min_heldout": 2, "min_retained": 1.0})
    german = encode(views.tokenizer, FIRST).select([0, 1])
    report = sliced(views, known, places={"v1.0": Places(NAMES[:4])}, gate=gate)
    now, before = (row_losses(views, view, german, batch_size=16).mean() for view in ("candidate", "base"))
    part = by_key(report)[GERMAN]
    assert part.scores == {"v1.0": pytest.approx(now, rel=1e-5)}
    assert part.retained == pytest.approx((before - now) / (before - 0.1), rel=1e-4)
    assert part.windows == 1
    assert by_key(report)[ENGLISH].retained is None
    (note,) = (note for note in report.notes if note.startswith("language=de fell"))
    assert f"{part.retained:.0%} is left of what 1 earlier window improved, gate.min_retained is 100%" in note


def losses(loss: float, rows: int, *, says: bool = False) -> RowLosses:
    return RowLosses(np.full(rows, loss), np.ones(rows, dtype=np.int64), np.full(rows, says))


def test_taught_content_decides_where_it_can_be_judged() -> None:
    places = Places([f"c{row}" for row in range(6)], {row: [0] for row in range(6)})
    found = slices.of_earlier(
        {"language": ["de", "de", "de", "fr", "", ""]},
        range(6),
        places,
        candidate=losses(1.0, 6, says=True),
        base=losses(2.0, 6),
        best={GERMAN: Best(loss=0.5, said=1.0), ("language", ""): Best(loss=0.5)},
        least=2,
    )
    assert found == {
        GERMAN: EarlierSlice(3, 1.0, 1.0, 1.0),
        ("language", ""): EarlierSlice(2, 1.0, 1.0, pytest.approx(2 / 3)),
    }


def test_the_best_of_a_value_is_that_of_any_ancestor(version: Any) -> None:
    first = Slice("language", "de", 9, loss=1.5, taught=Content(9, 9, candidate=0.5))
    later = Slice("language", "de", 9, loss=1.0, scores={"v1.0": 1.25}, said={"v1.0": 0.75})
    last = Slice("language", "de", 0, scores={"v1.0": 1.75, "v1.1": 1.25}, said={"v1.0": 0.25})
    found = slices.best([version("v1.2", last), version("v1.1", later), version("v1.0", first)])
    assert found == {"v1.0": {GERMAN: Best(1.25, 0.75)}, "v1.1": {GERMAN: Best(1.0)}, "v1.2": {GERMAN: Best()}}


@pytest.fixture
def version() -> Any:
    from tests.cli import samples

    def make(name: str, part: Slice) -> Any:
        (one, _) = samples.VERSIONS
        return replace(one, version=name, report=replace(one.report, slices=[part]))

    return make


def test_at_most_twenty_values_are_listed_and_the_rest_is_counted() -> None:
    gate = sections.Gate(min_heldout=8)
    window = {("product", f"p{count}"): Slice("product", f"p{count}", count, loss=1.0) for count in range(6, 31)}
    window |= {("language", ""): Slice("language", "", 50, loss=1.0)}
    found, notes = slices.judge(["product", "language"], window, {}, gate)
    assert [part.value for part in found] == [*(f"p{count}" for count in range(30, 10, -1)), ""]
    assert found[-1].label == "language=(none)"
    assert notes == [
        "Values of product that are not judged: 5, with 40 conversations; they have fewer than 8 each, or 20 others "
        "have more.",
        "No held-out row has a value of language: check feedback.slices.",
    ]


def test_a_value_that_only_earlier_windows_have_can_fall() -> None:
    earlier = {"v1.0": {GERMAN: EarlierSlice(9, 2.0, None, 0.2)}, "v1.1": {GERMAN: EarlierSlice(9, 2.0, None, -0.4)}}
    gate = sections.Gate(min_retained=0.0)
    (part,), _ = slices.judge(["language"], {}, earlier, gate)
    assert (part.conversations, part.retained, part.windows, part.fell) == (0, pytest.approx(-0.1), 2, True)
    assert slices.fallen([part], gate, improved=True) == [
        "language=de fell: -10% is left of what 2 earlier windows improved, gate.min_retained is 0%."
    ]


def test_a_report_without_slices_is_read_and_one_with_slices_is_plain_json(views: Views) -> None:
    report = sliced(views, Known(window={"language": LANGUAGES}))
    body = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert Report.from_json(body) == report
    del body["slices"]
    assert Report.from_json(body).slices == []
