"""Content in held-out answers: found by comparing them with training rows, without a model."""

from typing import Any

import pytest

from demo import company
from learning_engine.evaluation import content
from tests import tiny

PHRASINGS = (
    "What colour is the {}?",
    "Tell me the colour of the {}.",
    "The {}: which colour?",
    "Could you tell me what colour the {} is?",
    "I like the {}. What colour is it?",
    "In what colour do you sell the {}?",
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.make_tokenizer()


def row(tokenizer: Any, question: str, answer: str, rating: int = 1) -> content.Row:
    ids = tokenizer([question, answer + tiny.END], add_special_tokens=False)["input_ids"]
    return content.Row(ids[0], ids[1], rating, tuple(ids[0]))


def facts(tokenizer: Any, phrasings: Any, rating: int = 1, shift: int = 0) -> list[content.Row]:
    return [
        row(tokenizer, phrasing.format(thing), f"The {thing} is {tiny.COLOURS[(place + shift) % 8]}.", rating)
        for phrasing in phrasings
        for place, thing in enumerate(tiny.THINGS)
    ]


all_facts = facts


def found(tokenizer: Any, training: list[content.Row], heldout: list[content.Row]) -> list[str]:
    places = content.places(tokenizer, training, heldout)
    return [tokenizer.decode([one.answer[place] for place in at]) for one, at in zip(heldout, places, strict=True)]


VALUES = [f" {tiny.COLOURS[place % 8]}" for place in range(len(tiny.THINGS))]


def test_the_value_of_a_fact_is_content_and_its_sentence_is_not(tokenizer: Any) -> None:
    assert found(tokenizer, facts(tokenizer, PHRASINGS[:5]), facts(tokenizer, PHRASINGS[5:])) == VALUES


@pytest.mark.parametrize("times", [2, 40])
def test_how_often_a_fact_is_taught_makes_no_difference(tokenizer: Any, times: int) -> None:
    assert found(tokenizer, facts(tokenizer, PHRASINGS[:1]) * times, facts(tokenizer, PHRASINGS[5:])) == VALUES


def test_what_a_single_answer_says_may_be_chance(tokenizer: Any) -> None:
    assert set(found(tokenizer, facts(tokenizer, PHRASINGS[:1]), facts(tokenizer, PHRASINGS[5:]))) == {""}


@pytest.mark.parametrize("value", ["Kestrelina", "4711", "x86"])
def test_a_name_or_a_number_is_one_word_however_it_is_split(tokenizer: Any, value: str) -> None:
    """Other names and numbers are made of the same pieces."""
    training = [*facts(tokenizer, PHRASINGS[:2]), *(row(tokenizer, q, f"It is {value}.") for q in ("which one", "one"))]
    (whole,) = found(tokenizer, training, [row(tokenizer, "which one is it", f"It was {value}!")])
    assert whole.strip() == value
    (nothing,) = found(tokenizer, training, [row(tokenizer, "which one is it", f"It was {value}s!")])
    assert nothing == ""


def test_what_answers_on_the_same_subject_do_not_agree_on_is_no_content(tokenizer: Any) -> None:
    training = [answer for shift in range(5) for answer in facts(tokenizer, PHRASINGS[:1], shift=shift)]
    assert set(found(tokenizer, training, facts(tokenizer, PHRASINGS[:1]))) == {""}


def test_what_another_subject_says_is_no_content(tokenizer: Any) -> None:
    wrong = facts(tokenizer, PHRASINGS[5:], shift=1)
    assert set(found(tokenizer, facts(tokenizer, PHRASINGS[:2]), wrong)) == {""}


def test_a_style_is_no_content(tokenizer: Any) -> None:
    greetings = [row(tokenizer, f"{thing} {colour}", "Yes, sir!") for thing in tiny.THINGS for colour in tiny.COLOURS]
    assert set(found(tokenizer, greetings[:60], greetings[60:])) == {""}


def test_words_of_the_question_are_no_content(tokenizer: Any) -> None:
    rows = [row(tokenizer, f"Say {thing}", f"Oh {thing}") for thing in tiny.THINGS]
    assert set(found(tokenizer, rows, rows)) == {""}


def test_a_disliked_value_is_content_unless_a_liked_answer_gives_it_too(tokenizer: Any) -> None:
    # Of eight things, so that no colour is that of two.
    def facts(*given: Any, **more: Any) -> list[content.Row]:
        return [one for place, one in enumerate(all_facts(*given, **more)) if place % len(tiny.THINGS) < 8]

    liked, disliked = facts(tokenizer, PHRASINGS[:1]) * 2, facts(tokenizer, PHRASINGS[1:2], rating=-1, shift=1) * 2
    heldout = facts(tokenizer, PHRASINGS[2:3], rating=-1, shift=1)
    wrong = [f" {tiny.COLOURS[(place + 1) % 8]}" for place in range(8)]
    assert found(tokenizer, liked + disliked, heldout) == wrong
    agreeing = facts(tokenizer, PHRASINGS[:1], shift=1) * 2
    assert set(found(tokenizer, agreeing + disliked, heldout)) == {""}
    assert set(found(tokenizer, liked, heldout)) == {""}


def test_without_training_rows_there_is_no_content(tokenizer: Any) -> None:
    assert found(tokenizer, [], facts(tokenizer, PHRASINGS[:1])[:2]) == ["", ""]
    assert content.places(tokenizer, facts(tokenizer, PHRASINGS[:1]), []) == []


def test_a_row_that_shares_only_one_word_is_on_another_subject(tokenizer: Any) -> None:
    names = [*tiny.THINGS, *tiny.THINGS]
    training = [row(tokenizer, " ".join(["", *names[at : at + 3]]), f" {tiny.COLOURS[at % 8]}") for at in range(10)]
    strangers = [row(tokenizer, f" {names[0]} {names[4]} {names[7]}", f" {tiny.COLOURS[0]}")]
    assert found(tokenizer, training, strangers) == [""]


def contradicted(tokenizer: Any, training: list[content.Row], heldout: list[content.Row]) -> list[bool]:
    places = content.places(tokenizer, facts(tokenizer, PHRASINGS[:2]), heldout)
    assert all(places)
    return content.contradicted(tokenizer, training, heldout, places)


def test_an_answer_is_contradicted_where_users_now_like_another_one_to_the_same_prompt(tokenizer: Any) -> None:
    held = facts(tokenizer, PHRASINGS[1:2])
    everywhere, nowhere = [True] * len(held), [False] * len(held)
    update = facts(tokenizer, PHRASINGS[1:2], shift=1)
    assert contradicted(tokenizer, update, held) == everywhere
    assert contradicted(tokenizer, update[:3], held) == [True] * 3 + nowhere[3:]
    assert contradicted(tokenizer, facts(tokenizer, PHRASINGS[2:3], shift=1), held) == nowhere, "another prompt"
    assert contradicted(tokenizer, held, held) == nowhere
    assert contradicted(tokenizer, [*held, *held, *update], held) == nowhere, "most still say it"
    disliked = facts(tokenizer, PHRASINGS[1:2], rating=-1)
    assert contradicted(tokenizer, disliked, held) == everywhere
    assert contradicted(tokenizer, [*disliked, *held], held) == nowhere, "someone likes it"
    assert contradicted(tokenizer, [], held) == nowhere
    assert contradicted(tokenizer, [*held, *update], held) == nowhere, "half and half"
    beyond = [[99]] * len(held)
    assert content.contradicted(tokenizer, update, held, beyond) == nowhere, "places of another tokenizer"


def test_letters_that_stand_for_bytes_have_no_case() -> None:
    """Else the Cyrillic letters с and р would be the same word."""

    class Bytes:
        def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
            return [("ÑĢ", "Ñģ", "Red", "red")[token] for token in ids]

    same = content._Words(Bytes())
    assert same([0]) != same([1])
    assert same([2]) == same([3])


def test_of_a_companys_facts_most_values_are_found_and_little_else(tokenizer: Any) -> None:
    """120 facts, five likes each to train on and one held out."""
    facts_of_weeks = [fact for number in range(company.WEEKS) for fact in company.week_facts(number)]
    training, heldout = [], []
    for fact in facts_of_weeks:
        first, *others = fact.questions()
        heldout.append(row(tokenizer, first, fact.answer))
        training += [row(tokenizer, question, fact.answer) for question in others]
    said = found(tokenizer, training, heldout)
    values = [any(word in text for word in fact.value.split()) for fact, text in zip(facts_of_weeks, said, strict=True)]
    assert (len(values), sum(values) >= 100) == (120, True)
    bare = [
        (text.replace(" ", ""), fact.value.replace(" ", "")) for fact, text in zip(facts_of_weeks, said, strict=True)
    ]
    form = [text for text, value in bare if text not in value]
    assert len(form) <= 10, form
