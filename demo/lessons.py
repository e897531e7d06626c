"""What the users of the demo teach: four weeks of thumbs on answers about the town's newcomers.

The right answers are those that the help desk gave while the model did not know better; users like them. They dislike
wrong ones, far fewer. A few rows of every week are such as any real table holds, and nobody can learn from.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from demo import town
from learning_engine.records.contracts import Window

WEEK = timedelta(days=7)
WEEKDAY, HOUR = 0, 2  # Monday 02:00 UTC, as the schedule "0 2 * * 1" has it
PHRASINGS_TAUGHT = 10
USERS = 40
QUESTIONS = 10
COLUMNS = ("request_data", "response_data", "feedback_type", "created_at", "user_id", "conversation_id")


@dataclass(frozen=True)
class Question:
    """What the model is asked, and the only answer that counts as right."""

    text: str
    answer: str


@dataclass(frozen=True)
class Row:
    """One vote. Request and response are JSON values; `created_at` is UTC without saying so, as the column has it."""

    request_data: Any
    response_data: Any
    feedback_type: str
    created_at: datetime
    user_id: str | None
    conversation_id: str | None

    def values(self) -> tuple[Any, ...]:
        """In the order of COLUMNS, JSON as text."""
        asked, answered = json.dumps(self.request_data), json.dumps(self.response_data)
        return asked, answered, self.feedback_type, self.created_at, self.user_id, self.conversation_id


@dataclass(frozen=True)
class Week:
    """One window of feedback. `exam` asks for each of its facts once, `questions` are the first ten of them.

    No question is put in words in which users asked for the same fact.
    """

    window: Window
    rows: tuple[Row, ...]
    exam: tuple[Question, ...]

    @property
    def questions(self) -> tuple[Question, ...]:
        return self.exam[:QUESTIONS]


def first_monday(now: datetime) -> datetime:
    """Where the first of the four most recent complete weeks starts."""
    monday = (now - timedelta(days=(now.weekday() - WEEKDAY) % 7)).replace(hour=HOUR, minute=0, second=0, microsecond=0)
    last_end = monday if monday <= now else monday - WEEK
    return last_end - len(town.NEWCOMERS) * WEEK


def weeks(first: datetime) -> list[Week]:
    """The four weeks from `first` on. The same start, the same rows."""
    return [_week(number, first + number * WEEK) for number in range(len(town.NEWCOMERS))]


def base_exam() -> list[Question]:
    """One question for each fact that the base model knows; the first ten make a sample of all."""
    chance = random.Random("base")
    exam = [Question(chance.choice(fact.phrasings()), fact.answer) for fact in town.base_facts()]
    return chance.sample(exam, len(exam))


def write_anchor(path: Path) -> None:
    """What the base model knows, as a file in the shape of the table: its Fisher information is measured on it."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    known = [(question, fact.answer) for fact in town.base_facts() for question in fact.phrasings()]
    random.Random("anchor").shuffle(known)
    with path.open("w") as file:
        for number, (question, answer) in enumerate(known):
            values = Row(_chat(question), _reply(answer), "thumbs_up", start, f"a{number}", f"a{number}")
            line = {name: getattr(values, name) for name in COLUMNS} | {"created_at": start.isoformat()}
            file.write(json.dumps(line) + "\n")


def write_prompts(path: Path, size: int = 64) -> None:
    """Fixed prompts about the residents: how far an adapter moves away from its parent is measured on them."""
    chance = random.Random("prompts")
    asked = [chance.choice(fact.phrasings()) for fact in chance.sample(town.base_facts(), size)]
    path.write_text("".join(json.dumps({"prompt": question}) + "\n" for question in asked))


def _week(number: int, start: datetime) -> Week:
    chance = random.Random(f"week {number}")
    clock = _clock(chance, start)
    window = Window(start, start + WEEK)
    rows: list[Row] = []
    exam: list[Question] = []
    for fact in town.week_facts(number):
        *taught, held_out = chance.sample(fact.phrasings(), PHRASINGS_TAUGHT + 1)
        exam.append(Question(held_out, fact.answer))
        rows += [_vote(question, fact.answer, "thumbs_up", clock, chance) for question in taught]
        if chance.random() < 0.6:
            rows.append(_vote(chance.choice(taught), fact.wrong(chance), "thumbs_down", clock, chance))
    chance.shuffle(rows)
    # One user votes on the same answer twice: the last vote counts.
    rows.append(replace(rows[0], created_at=next(clock)))
    rows += _nasty(rows, clock)
    return Week(window, tuple(sorted(rows, key=lambda row: row.created_at)), tuple(chance.sample(exam, len(exam))))


def _vote(question: str, answer: str, thumb: str, clock: Iterator[datetime], chance: random.Random) -> Row:
    """Most requests are OpenAI's, some are of the plainer kind; a thumb is spelt in more than one way."""
    time, user = next(clock), f"user-{chance.randrange(USERS):02d}"
    conversation = f"chat-{chance.getrandbits(48):012x}"
    if chance.random() < 0.2:
        return Row({"prompt": question}, {"response": answer}, thumb, time, user, conversation)
    spelling = "👍" if thumb == "thumbs_up" and chance.random() < 0.05 else thumb
    return Row(_chat(question), _reply(answer), spelling, time, user, conversation)


def _nasty(rows: list[Row], clock: Iterator[datetime]) -> list[Row]:
    """Rows that have to be dropped, each for another reason."""
    good = rows[0]
    shapes: list[tuple[Any, Any, str]] = [
        (good.request_data, {}, "thumbs_up"),
        ({"messages": []}, _reply("Nobody asked."), "thumbs_up"),
        (_chat("What does Ada grow?"), _reply(""), "thumbs_up"),
        (_chat("'); DROP TABLE feedback; --"), _reply("Ada grows nothing."), "report"),
        ({"messages": [{"role": "user", "content": 7}]}, _reply("Seven."), "thumbs_down"),
        (_chat("x" * 200_000), _reply("That is long."), "thumbs_up"),
        ([], [], "thumbs_up"),
    ]
    return [Row(request, response, thumb, next(clock), None, None) for request, response, thumb in shapes]


def _chat(question: str) -> dict[str, Any]:
    return {"model": "town", "messages": [{"role": "user", "content": question}], "temperature": 0}


def _reply(answer: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
    return {"object": "chat.completion", "choices": [choice]}


def _clock(chance: random.Random, start: datetime) -> Iterator[datetime]:
    """Moments all over the week that starts at `start`, naive UTC."""
    begin = start.astimezone(UTC).replace(tzinfo=None)
    while True:
        yield begin + timedelta(microseconds=chance.randrange(int(WEEK.total_seconds() * 1e6)))
