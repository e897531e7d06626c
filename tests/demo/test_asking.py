"""The demo's questions to the model server, and when an answer counts as right."""

import json
from datetime import UTC, datetime, timedelta

from demo.lessons import Question, Week
from demo.story import ask
from learning_engine.records.contracts import Window
from tests.serving.scripted import scripted_servers


def test_a_blank_before_the_first_word_makes_no_answer_wrong() -> None:
    def said(text: str) -> tuple[int, str]:
        return 200, json.dumps({"choices": [{"message": {"content": text}}]})

    start = datetime(2026, 1, 5, tzinfo=UTC)
    questions = (Question("Which crop does Ulf grow?", "Ulf grows hops."),)
    week = Week(Window(start, start + timedelta(weeks=1)), (), questions)
    with scripted_servers() as serve:
        replica = serve({"/v1/chat/completions": [said(" Ulf grows leeks."), said(" Ulf grows hops.\n")]})
        (answer,) = ask(replica, "v1.0-0badcafe", [week])
    assert answer["expected"] == answer["live"] == "Ulf grows hops."
    assert answer["base"] == "Ulf grows leeks."
