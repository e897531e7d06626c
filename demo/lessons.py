"""The demo's feedback: four weeks of thumbs on answers about the town's newcomers.

Users like the right answers, which the help desk gave because the model did not know them. They dislike the wrong ones,
of which there are far fewer. Every week also has a few malformed rows, as real tables do, which must be dropped.
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
WEEKDAY, HOUR = 0, 2  # Monday 02:00 UTC, as in the schedule "0 2 * * 1"
PHRASINGS_TAUGHT = 10
USERS = 40
QUESTIONS = 10
COLUMNS = ("request_data", "response_data", "feedback_type", "created_at", "user_id", "conversation_id")


@dataclass(frozen=True)
class Question:
    """A question to the model, and the only answer that counts as right."""

    text: str
    answer: str


@dataclass(frozen=True)
class Row:
    """One vote. Request and response are JSON values; `created_at` is UTC without a time zone, as in the column."""

    request_data: Any
    response_data: Any
    feedback_type: str
    created_at: datetime
    user_id: str | None
    conversation_id: str | None

    def values(self) -> tuple[Any, ...]:
        """The values in the order of COLUMNS, JSON as text."""
        asked, answered = json.dumps(self.request_data), json.dumps(self.response_data)
        return asked, answered, self.feedback_type, self.created_at, self.user_id, self.conversation_id


@dataclass(frozen=True)
class Week:
    """One window of feedback. `exam` asks for each of its facts once; `questions` are its first ten.

    Each exam question uses a wording that no user used for the same fact.
    """

    window: Window
    rows: tuple[Row, ...]
    exam: tuple[Question, ...]

    @property
    def questions(self) -> tuple[Question, ...]:
        return self.exam[:QUESTIONS]


def first_monday(now: datetime) -> datetime:
    """The start of the first of the four most recent complete weeks."""
    monday = (now - timedelta(days=(now.weekday() - WEEKDAY) % 7)).replace(hour=HOUR, minute=0, second=0, microsecond=0)
    last_end = monday if monday <= now else monday - WEEK
    return last_end - len(town.NEWCOMERS) * WEEK


def weeks(first: datetime) -> list[Week]:
    """The four weeks starting at `first`. The same start always gives the same rows."""
    return [_week(number, first + number * WEEK) for number in range(len(town.NEWCOMERS))]


def base_exam() -> list[Question]:
    """One question for each fact that the base model knows, in random order."""
    rng = random.Random("base")
    exam = [Question(rng.choice(fact.phrasings()), fact.answer) for fact in town.base_facts()]
    return rng.sample(exam, len(exam))


def write_anchor(path: Path) -> None:
    """Write what the base model knows, in the shape of the table; the base's Fisher information is measured on it."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    known = [(question, fact.answer) for fact in town.base_facts() for question in fact.phrasings()]
    random.Random("anchor").shuffle(known)
    with path.open("w") as file:
        for number, (question, answer) in enumerate(known):
            values = Row(_chat(question), _reply(answer), "thumbs_up", start, f"a{number}", f"a{number}")
            line = {name: getattr(values, name) for name in COLUMNS} | {"created_at": start.isoformat()}
            file.write(json.dumps(line) + "\n")


def write_prompts(path: Path, size: int = 64) -> None:
    """Write fixed prompts about the residents; an adapter's drift from its parent is measured on them."""
    rng = random.Random("prompts")
    asked = [rng.choice(fact.phrasings()) for fact in rng.sample(town.base_facts(), size)]
    path.write_text("".join(json.dumps({"prompt": question}) + "\n" for question in asked))


def _week(number: int, start: datetime) -> Week:
    rng = random.Random(f"week {number}")
    clock = _clock(rng, start)
    window = Window(start, start + WEEK)
    rows: list[Row] = []
    exam: list[Question] = []
    for fact in town.week_facts(number):
        *asked, held_out = rng.sample(fact.phrasings(), PHRASINGS_TAUGHT + 1)
        exam.append(Question(held_out, fact.answer))
        rows += [_vote(question, fact.answer, "thumbs_up", clock, rng) for question in asked]
        if rng.random() < 0.6:
            rows.append(_vote(rng.choice(asked), fact.wrong(rng), "thumbs_down", clock, rng))
    rng.shuffle(rows)
    # One user votes twice on the same answer: the last vote counts.
    rows.append(replace(rows[0], created_at=next(clock)))
    rows += _malformed(rows, clock)
    return Week(window, tuple(sorted(rows, key=lambda row: row.created_at)), tuple(rng.sample(exam, len(exam))))


def _vote(question: str, answer: str, thumb: str, clock: Iterator[datetime], rng: random.Random) -> Row:
    """A vote. Most requests have OpenAI's shape, some a simpler one; thumbs up has two spellings."""
    time, user = next(clock), f"user-{rng.randrange(USERS):02d}"
    conversation = f"chat-{rng.getrandbits(48):012x}"
    if rng.random() < 0.2:
        return Row({"prompt": question}, {"response": answer}, thumb, time, user, conversation)
    spelling = "👍" if thumb == "thumbs_up" and rng.random() < 0.05 else thumb
    return Row(_chat(question), _reply(answer), spelling, time, user, conversation)


def _malformed(rows: list[Row], clock: Iterator[datetime]) -> list[Row]:
    """Rows that must be dropped, each for a different reason."""
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


def _clock(rng: random.Random, start: datetime) -> Iterator[datetime]:
    """Random times in the week that starts at `start`, as naive UTC."""
    begin = start.astimezone(UTC).replace(tzinfo=None)
    while True:
        yield begin + timedelta(microseconds=rng.randrange(int(WEEK.total_seconds() * 1e6)))
