"""The gate sees what a person sees: versions that know none of the facts, forgot them, or say what users disliked."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from learning_engine.config import sections
from learning_engine.evaluation import content, taught
from learning_engine.evaluation.evaluate import Evaluation
from learning_engine.evaluation.metrics import RowLosses, row_losses
from learning_engine.evaluation.prompts import render
from learning_engine.evaluation.taught import Places
from learning_engine.evaluation.views import Views, load_views
from learning_engine.learning import model as models
from tests import tiny
from tests.evaluation.conftest import LORA, teach
from tests.evaluation.test_content import PHRASINGS
from tests.evaluation.test_evaluate import GATE, judged, rule

THINGS = tiny.THINGS[:8]
RIGHT = dict(zip(THINGS, tiny.COLOURS, strict=True))
WRONG = dict(zip(THINGS, tiny.COLOURS[1:] + tiny.COLOURS[:1], strict=True))
TAUGHT = PHRASINGS[:2]
# A tiny model does not understand another phrasing, so other users ask in the same words.
HELD = TAUGHT[0]

Row = tuple[str, str, int]


def asked(answers: dict[str, str], *phrasings: str, rating: int = 1) -> list[Row]:
    """Question, answer and rating of each thing in each phrasing."""
    return [
        (p.format(thing), f"The {thing} is {colour}.", rating) for p in phrasings for thing, colour in answers.items()
    ]


def encode(tokenizer: Any, rows: list[Row]) -> datasets.Dataset:
    """The rows in the columns of `feedback.dataset.encode`."""
    examples = []
    for row, (question, text, rating) in enumerate(rows):
        prompt = render(tokenizer, [{"role": "user", "content": question}])
        answer = tokenizer.encode(text + tiny.END, add_special_tokens=False)
        labels = [-100] * len(prompt) + answer
        examples.append({"input_ids": prompt + answer, "labels": labels, "weight": 1.0, "rating": rating, "row": row})
    return datasets.Dataset.from_list(examples)


def places(tokenizer: Any, training: list[Row], heldout: list[Row]) -> Places:
    trained, held = (
        content.rows_of(tokenizer, encode(tokenizer, rows), [question for question, _, _ in rows])
        for rows in (training, heldout)
    )
    found = content.places(tokenizer, trained, held)
    return Places([f"conversation {row}" for row in range(len(heldout))], dict(enumerate(found)))


@pytest.fixture(scope="session")
def knowing(model: sections.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = models.load_tokenizer(model)
    return teach(model, encode(tokenizer, asked(RIGHT, *TAUGHT)), tmp_path_factory.mktemp("knowing"))


@pytest.fixture(scope="session")
def mistaken(model: sections.Model, knowing: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Continues the knowing version; it answers in the same form, with a wrong colour for each thing."""
    tokenizer = models.load_tokenizer(model)
    rows = encode(tokenizer, asked(WRONG, *TAUGHT))
    return teach(model, rows, tmp_path_factory.mktemp("mistaken"), start=knowing)


def judge(views: Views, heldout: list[Row], training: list[Row], **more: Any) -> Evaluation:
    arguments: dict[str, Any] = {
        "heldout": encode(views.tokenizer, heldout),
        "content": places(views.tokenizer, training, heldout),
        "earlier": {},
        "history": {},
        "gate": GATE.model_copy(update={"epsilon": 10.0, "max_margin_loss": 100.0}),
    }
    return judged(views, **{**arguments, **more})


def failed(found: Evaluation) -> list[str]:
    return [one.name for one in found.report.rules if not one.passed]


def test_a_version_that_learned_the_facts_is_accepted(model: sections.Model, knowing: Path) -> None:
    views = load_views(model, LORA, candidate=knowing, parent=None)
    found = judge(views, asked(RIGHT, HELD), asked(RIGHT, *TAUGHT), gate=GATE)
    report = found.report
    assert report.accepted
    assert (report.taught.conversations, report.taught.parent, report.taught.base) == (8, 0.0, 0.0)
    assert rule(report, "taught").figure == report.taught.candidate >= 0.75
    assert sum(map(len, found.taught.values())) == report.taught.places == 8


def test_a_version_that_learned_the_form_and_none_of_the_content_is_rejected(
    model: sections.Model, mistaken: Path
) -> None:
    views = load_views(model, LORA, candidate=mistaken, parent=None)
    found = judge(views, asked(RIGHT, HELD), asked(RIGHT, *TAUGHT), gate=GATE)
    report = found.report
    assert report.loss < report.loss_base / 2
    assert rule(report, "learned").passed
    assert failed(found) == ["taught"]
    assert report.taught.candidate <= 0.25
    assert "of 8 phrases" in rule(report, "taught").why.lower()
    off = judge(
        views,
        asked(RIGHT, HELD),
        asked(RIGHT, *TAUGHT),
        gate=GATE.model_copy(update={"min_taught": None}),
    )
    assert off.report.accepted
    assert "taught" not in [one.name for one in off.report.rules]


def test_too_few_conversations_with_taught_tokens_are_not_judged(model: sections.Model, mistaken: Path) -> None:
    views = load_views(model, LORA, candidate=mistaken, parent=None)
    training = asked(RIGHT, *TAUGHT)
    found = rule(judge(views, asked(RIGHT, HELD)[:3], training).report, "taught")
    assert found.passed
    assert "3 conversations are held out" in found.why


def test_a_week_that_teaches_a_style_is_not_judged_by_content(model: sections.Model, tmp_path: Path) -> None:
    tokenizer = models.load_tokenizer(model)
    polite = [(phrasing.format(thing), "Yes, sir!", 1) for phrasing in (*TAUGHT, HELD) for thing in THINGS]
    adapter = teach(model, encode(tokenizer, polite[:16]), tmp_path)
    found = judge(load_views(model, LORA, candidate=adapter, parent=None), polite[16:], polite[:16], gate=GATE)
    assert found.report.accepted
    assert rule(found.report, "taught").figure is None
    assert "not judged" in rule(found.report, "taught").why
    assert found.report.taught.places == 0


def test_a_week_that_lost_its_facts_is_told_as_lost(model: sections.Model, knowing: Path, mistaken: Path) -> None:
    """Its loss hides it, because the form of the answers is still there."""
    first = load_views(model, LORA, candidate=knowing, parent=None)
    held, training = asked(RIGHT, HELD), asked(RIGHT, *TAUGHT)
    before = judge(first, held, training)
    views = load_views(model, LORA, candidate=mistaken, parent=knowing)
    week = {
        "earlier": {"v1.0": encode(views.tokenizer, held)},
        "history": {"v1.0": {"v1.0": before.report.loss}},
        "gate": GATE.model_copy(update={"epsilon": 10.0, "min_retained": 0.3}),
    }
    new, practised = asked(WRONG, HELD), asked(WRONG, *TAUGHT)
    by_loss = judge(views, new, practised, **week)
    assert by_loss.report.retained["v1.0"] > 0.3
    assert rule(by_loss.report, "retained").passed
    assert "best improvement of the loss" in rule(by_loss.report, "retained").why
    known = {
        "places": {"v1.0": Places([f"conversation {row}" for row in range(8)], before.taught)},
        "best_taught": {"v1.0": before.report.taught.candidate},
    }
    by_content = judge(views, new, practised, **week, **known)
    assert failed(by_content) == ["retained"]
    assert by_content.report.kept["v1.0"].retained <= 0.25
    assert by_content.report.shares_retained() == {"v1.0": by_content.report.kept["v1.0"].retained}
    assert rule(by_content.report, "retained").figure == by_content.report.kept["v1.0"].retained
    assert "what was learned from the window of v1.0" in rule(by_content.report, "retained").why
    assert by_content.report.retained == by_loss.report.retained


def test_a_version_that_says_what_users_disliked_is_rejected(
    model: sections.Model, knowing: Path, mistaken: Path
) -> None:
    views = load_views(model, LORA, candidate=mistaken, parent=knowing)
    training = asked(RIGHT, *TAUGHT) + asked(WRONG, *TAUGHT, rating=-1)
    held = asked(RIGHT, HELD) + asked(WRONG, HELD, rating=-1)
    found = judge(views, held, training)
    assert failed(found) == ["disliked"]
    report = found.report
    assert rule(report, "disliked").figure == report.refused.candidate - report.refused.parent >= 0.5
    assert report.disliked_rise > 0
    assert f"{report.disliked_rise:.3f} nats per token likelier" in rule(report, "margin").why
    assert judge(load_views(model, LORA, candidate=knowing, parent=knowing), held, training).report.accepted


def test_a_name_counts_if_all_of_it_is_said() -> None:
    """Whoever knows its first token can spell the rest."""
    first = np.array([True, False, True, True, True, True, True])
    losses = RowLosses(np.zeros(2), np.array([4, 3]), first)
    mask = np.array([False, True, True, True, True, True, False])
    assert taught.share(losses, mask) == 0.5, "one name in each row, the first of them not known"
    assert taught.unsaid(losses, mask).tolist() == [False, True, True, True, False, False, False]
    assert taught.by_row(losses, taught.unsaid(losses, mask)) == [[1, 2, 3], []]
    whole = RowLosses(np.zeros(2), losses.tokens, np.ones(7, dtype=bool))
    assert (taught.share(whole, mask), taught.unsaid(whole, mask).any()) == (1.0, False)
    nothing = np.zeros(7, dtype=bool)
    assert (taught.share(losses, nothing), taught.unsaid(losses, nothing).any()) == (None, False)


def test_places_beyond_an_answer_are_left_out(views: Views) -> None:
    rows = encode(views.tokenizer, asked(RIGHT, HELD)[:1])
    losses = row_losses(views, "base", rows, batch_size=1)
    mask = Places(["a"], {0: [0, 99]}).mask([0], losses)
    assert taught.by_row(losses, mask) == [[0]]
