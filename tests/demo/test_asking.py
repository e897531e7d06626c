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
    week = Week(Window(start, start + timedelta(weeks=1)), (), questions)
    with scripted_servers() as serve:
        replica = serve({"/v1/chat/completions": [reply(" Ulf grows leeks."), reply(" Ulf grows hops.\n")]})
        (answer,) = ask(replica, "v1.0-0badcafe", [week])
    assert answer["expected"] == answer["live"] == "Ulf grows hops."
    assert answer["base"] == "Ulf grows leeks."
