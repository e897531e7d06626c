"""The demo's feedback lies in its week, is new to the base model, differs from the exam, and is reproducible."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from demo import chain, lessons, town
from learning_engine.config.sections import Columns, Feedback
from learning_engine.feedback import snapshot
from learning_engine.feedback.source import FileSource, read

FIRST = datetime(2026, 10, 19, 2, tzinfo=UTC)
FEEDBACK = Feedback(columns=Columns(user="user_id", conversation="conversation_id"))


@pytest.mark.parametrize(
    ("now", "end"),
    [
        (datetime(2026, 11, 22, 17, tzinfo=UTC), datetime(2026, 11, 16, 2, tzinfo=UTC)),  # a Sunday
        (datetime(2026, 11, 23, 1, 59, tzinfo=UTC), datetime(2026, 11, 16, 2, tzinfo=UTC)),  # a minute too early
        (datetime(2026, 11, 23, 2, tzinfo=UTC), datetime(2026, 11, 23, 2, tzinfo=UTC)),
    ],
)
def test_the_last_week_is_the_most_recent_complete_one(now: datetime, end: datetime):
    weeks = lessons.weeks(lessons.first_monday(now))
    assert weeks[-1].window.end == end
    assert [later.window.start for later in weeks[1:]] == [earlier.window.end for earlier in weeks[:-1]]
    assert all(week.window.end - week.window.start == timedelta(days=7) for week in weeks)


def test_every_vote_lies_in_its_week():
    for week in lessons.weeks(FIRST):
        times = [row.created_at.replace(tzinfo=UTC) for row in week.rows]
        assert week.window.start <= min(times)
        assert max(times) < week.window.end


def test_the_same_start_gives_the_same_rows():
    assert lessons.weeks(FIRST) == lessons.weeks(FIRST)


def test_base_and_weeks_share_no_fact():
    facts = [town.base_facts(), *(town.week_facts(week) for week in range(4))]
    answers = [fact.answer for group in facts for fact in group]
    assert len(answers) == len(set(answers)) == 100 + 4 * 30


def test_no_exam_question_was_asked_by_a_user():
    for week in lessons.weeks(FIRST):
        asked = {str(row.request_data) for row in week.rows}
        assert len(week.exam) == 30
        assert len(week.questions) == 10
        assert not [question for question in week.exam if any(f"'{question.text}'" in request for request in asked)]


def test_cleaning_keeps_the_votes_and_drops_malformed_rows(tmp_path: Path):
    weeks = lessons.weeks(FIRST)
    chain.write_feedback(weeks, tmp_path / "feedback.jsonl")
    for week in weeks:
        batches = read(FileSource(tmp_path / "feedback.jsonl"), week.window, FEEDBACK)
        counts = snapshot.write(batches, tmp_path / "rows.parquet", feedback=FEEDBACK, heldout_fraction=0.1)
        assert counts.thumbs_up == 300
        assert 5 <= counts.thumbs_down <= 30
        assert sum(counts.dropped.values()) >= 6
        assert counts.read == len(week.rows)
