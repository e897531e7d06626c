"""The demo's questions to the model server, and when an answer counts as right."""

import json
from datetime import UTC, datetime, timedelta

from demo.lessons import Question, Week
from demo.story import ask
from learning_engine.records.contracts import Window
from tests.serving.scripted import scripted_servers


def test_whitespace_around_an_answer_does_not_make_it_wrong() -> None:
    def reply(text: str) -> tuple[int, str]:
        return 200, json.dumps({"choices": [{"message": {"content": text}}]})

    start = datetime(2026, 1, 5, tzinfo=UTC)
    questions = (Question("Which crop does Ulf grow?", "Ulf grows hops."),)
    week = Week(Window(start, start + timedelta(weeks=1)), (), questions, asked=1)
    with scripted_servers() as serve:
        replica = serve({"/v1/chat/completions": [reply(" Ulf grows leeks."), reply(" Ulf grows hops.\n")]})
        (answer,) = ask(replica, "town", "v1.0-0badcafe", [week])
    assert answer["expected"] == answer["live"] == "Ulf grows hops."
    assert answer["base"] == "Ulf grows leeks."
    assert (answer["base_right"], answer["live_right"]) == (False, True)


def test_an_answer_is_right_if_it_has_the_value_and_no_other_value() -> None:
    question = Question("When do you open in Basel?", "At nine.", "nine", ("half past nine", "ten"))
    assert question.right("Our shop in Basel opens at Nine.")
    assert not question.right("Our shop in Basel opens at half past nine.")
    assert not question.right("It opens at nine or at ten.")
    assert not question.right("We are open at ninety-nine.")
    assert not question.right("")
