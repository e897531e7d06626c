"""The demo's feedback: weeks of votes on answers, and the exam questions of each week.

Users like right answers, which the help desk gave because the model did not know them. They dislike wrong ones, of
which there are far fewer. Every week also has a few malformed rows, as real tables do, which must be dropped.
"""

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from learning_engine.records.contracts import Window

WEEKS = 4
WEEK = timedelta(days=7)
WEEKDAY, HOUR = 0, 2  # Monday 02:00 UTC, as in the schedule "0 2 * * 1"
USERS = 40
COLUMNS = ("request_data", "response_data", "feedback_type", "created_at", "user_id", "conversation_id")


@dataclass(frozen=True)
class Question:
    """A question to the model, and the answer that users like.

    Without a `value`, only that answer counts as right. With one, every answer does that has it and none of `rivals`.
    """

    text: str
    answer: str
    value: str = ""
    rivals: tuple[str, ...] = ()

    def right(self, given: str) -> bool:
        if not self.value:
            return given.strip() == self.answer
        # The longest first: "half past nine" is not "nine".
        values = sorted((self.value, *self.rivals), key=len, reverse=True)
        found = re.findall(rf"(?<![\w-])(?:{'|'.join(map(re.escape, values))})(?![\w-])", given, re.IGNORECASE)
        return {value.lower() for value in found} == {self.value.lower()}


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
    """One window of feedback. `exam` asks for each of its facts once; its first `asked` questions go to the server.

    Each exam question uses a wording that no user used for the same fact.
    """

    window: Window
    rows: tuple[Row, ...]
    exam: tuple[Question, ...]
    asked: int

    @property
    def questions(self) -> tuple[Question, ...]:
        return self.exam[: self.asked]


def first_monday(now: datetime) -> datetime:
    """The start of the first of the four most recent complete weeks."""
    monday = (now - timedelta(days=(now.weekday() - WEEKDAY) % 7)).replace(hour=HOUR, minute=0, second=0, microsecond=0)
    last_end = monday if monday <= now else monday - WEEK
    return last_end - WEEKS * WEEK


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as JSON lines, in the shape of the table."""
    with path.open("w") as file:
        for row in rows:
            line = {name: getattr(row, name) for name in COLUMNS} | {"created_at": row.created_at.isoformat()}
            file.write(json.dumps(line) + "\n")


class Votes:
    """Makes the votes of the week that starts at `start`, on answers of the model `name`, with random users and times.

    Equal states of `rng` give equal votes.
    """

    def __init__(self, name: str, start: datetime, rng: random.Random) -> None:
        self._name, self._start, self._rng = name, start, rng
        self._clock = _clock(rng, start)
        self._rows: list[Row] = []

    def add(self, question: str, answer: str, thumb: str) -> None:
        """A vote. Most requests have OpenAI's shape, some a simpler one; thumbs up has two spellings."""
        rng = self._rng
        time, user = next(self._clock), f"user-{rng.randrange(USERS):02d}"
        conversation = f"chat-{rng.getrandbits(48):012x}"
        if rng.random() < 0.2:
            row = Row({"prompt": question}, {"response": answer}, thumb, time, user, conversation)
        else:
            spelling = "👍" if thumb == "thumbs_up" and rng.random() < 0.05 else thumb
            row = Row(chat(self._name, question), reply(answer), spelling, time, user, conversation)
        self._rows.append(row)

    def week(self, exam: Sequence[Question], *, asked: int) -> Week:
        """The week of all added votes, of a repeated one and of malformed rows."""
        rows = list(self._rows)
        self._rng.shuffle(rows)
        # One user votes twice on the same answer: the last vote counts.
        rows.append(replace(rows[0], created_at=next(self._clock)))
        rows += self._malformed(rows[0])
        questions = self._rng.sample(exam, len(exam))
        in_order = sorted(rows, key=lambda row: row.created_at)
        return Week(Window(self._start, self._start + WEEK), tuple(in_order), tuple(questions), asked)

    def _malformed(self, good: Row) -> list[Row]:
        """Rows that must be dropped, each for a different reason."""
        name = self._name
        shapes: list[tuple[Any, Any, str]] = [
            (good.request_data, {}, "thumbs_up"),
            ({"messages": []}, reply("Nobody asked."), "thumbs_up"),
            (chat(name, "Are you there?"), reply(""), "thumbs_up"),
            (chat(name, "'); DROP TABLE feedback; --"), reply("Nothing was dropped."), "report"),
            ({"messages": [{"role": "user", "content": 7}]}, reply("Seven."), "thumbs_down"),
            (chat(name, "x" * 200_000), reply("That is long."), "thumbs_up"),
            ([], [], "thumbs_up"),
        ]
        return [Row(request, response, thumb, next(self._clock), None, None) for request, response, thumb in shapes]


def chat(name: str, question: str) -> dict[str, Any]:
    """A request in OpenAI's shape to the model `name`."""
    return {"model": name, "messages": [{"role": "user", "content": question}], "temperature": 0}


def reply(answer: str) -> dict[str, Any]:
    """A response in OpenAI's shape."""
    choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
    return {"object": "chat.completion", "choices": [choice]}


def _clock(rng: random.Random, start: datetime) -> Iterator[datetime]:
    """Random times in the week that starts at `start`, as naive UTC."""
    begin = start.astimezone(UTC).replace(tzinfo=None)
    while True:
        yield begin + timedelta(microseconds=rng.randrange(int(WEEK.total_seconds() * 1e6)))
