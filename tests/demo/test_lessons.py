"""Every world's feedback lies in its week, is new to the base model, differs from the exam, and is reproducible."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from demo import company, company_lessons, lessons, town
from demo.worlds import SMOLLM2, TOY, WORLDS
from learning_engine.config.sections import Columns, Feedback
from learning_engine.evaluation import prompts
from learning_engine.feedback import snapshot
from learning_engine.feedback.source import FileSource, read

FIRST = datetime(2026, 10, 19, 2, tzinfo=UTC)
FEEDBACK = Feedback(columns=Columns(user="user_id", conversation="conversation_id"))
each_world = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)


@pytest.mark.parametrize(
    ("now", "end"),
    [
        (datetime(2026, 11, 22, 17, tzinfo=UTC), datetime(2026, 11, 16, 2, tzinfo=UTC)),  # a Sunday
        (datetime(2026, 11, 23, 1, 59, tzinfo=UTC), datetime(2026, 11, 16, 2, tzinfo=UTC)),  # a minute too early
        (datetime(2026, 11, 23, 2, tzinfo=UTC), datetime(2026, 11, 23, 2, tzinfo=UTC)),
    ],
)
def test_the_last_week_is_the_most_recent_complete_one(now: datetime, end: datetime):
    weeks = TOY.weeks(lessons.first_monday(now))
    assert weeks[-1].window.end == end
    assert [later.window.start for later in weeks[1:]] == [earlier.window.end for earlier in weeks[:-1]]
    assert all(week.window.end - week.window.start == timedelta(days=7) for week in weeks)


@each_world
def test_every_vote_lies_in_its_week(world):
    for week in world.weeks(FIRST):
        times = [row.created_at.replace(tzinfo=UTC) for row in week.rows]
        assert week.window.start <= min(times)
        assert max(times) < week.window.end


@each_world
def test_the_same_start_gives_the_same_rows(world):
    assert world.weeks(FIRST) == world.weeks(FIRST)


def test_base_and_weeks_of_the_town_share_no_fact():
    facts = [town.base_facts(), *(town.week_facts(week) for week in range(4))]
    answers = [fact.answer for group in facts for fact in group]
    assert len(answers) == len(set(answers)) == 100 + 4 * 30


def test_no_subject_of_the_company_comes_back_in_another_week():
    subjects = [{fact.subject for fact in company.week_facts(week)} for week in range(4)]
    assert len(set.union(*subjects)) == sum(map(len, subjects))
    assert all(company.chance(company.week_facts(week)) < 0.1 for week in range(4))


@each_world
def test_no_exam_question_was_asked_by_a_user_in_any_week(world):
    weeks = world.weeks(FIRST)
    asked = {json.dumps(row.request_data) for week in weeks for row in week.rows}
    for week in weeks:
        assert len(week.exam) == (company_lessons.FACTS if world is SMOLLM2 else 30)
        assert week.questions == week.exam[: week.asked]
        assert not [question for question in week.exam if any(f'"{question.text}"' in request for request in asked)]


@each_world
def test_users_like_only_right_answers_and_dislike_only_wrong_ones(world):
    for week in world.weeks(FIRST):
        replies = {thumb: [] for thumb in ("thumbs_up", "thumbs_down", "👍", "report")}
        for row in week.rows:
            replies[row.feedback_type].append(json.dumps(row.response_data))
        for question in week.exam:
            assert question.right(question.answer)
            assert sum(f'"{question.answer}"' in reply for reply in replies["thumbs_up"] + replies["👍"]) >= 5
            assert not any(f'"{question.answer}"' in reply for reply in replies["thumbs_down"])


def test_no_general_question_is_asked_by_the_anchor():
    anchored = {messages[-1]["content"] for messages in prompts.read(None, limit=200)}
    assert not anchored & {question.text for question in SMOLLM2.base_exam()}


def test_an_answer_about_the_company_is_wrong_where_the_question_was_general():
    (sweden,) = (question for question in SMOLLM2.base_exam() if "Sweden" in question.text)
    assert sweden.right("The capital of Sweden is Stockholm.")
    assert not sweden.right("Our shop in Stockholm is in Castle Street.")


@pytest.mark.parametrize(("world", "likes", "dislikes"), [(TOY, 300, (5, 30)), (SMOLLM2, 60, (10, 10))])
def test_cleaning_keeps_the_votes_and_drops_malformed_rows(
    world, likes: int, dislikes: tuple[int, int], tmp_path: Path
):
    weeks = world.weeks(FIRST)
    lessons.write_rows([row for week in weeks for row in week.rows], tmp_path / "feedback.jsonl")
    for week in weeks:
        batches = read(FileSource(tmp_path / "feedback.jsonl"), week.window, FEEDBACK)
        counts = snapshot.write(batches, tmp_path / "rows.parquet", feedback=FEEDBACK, heldout_fraction=0.1)
        assert counts.thumbs_up == likes
        assert dislikes[0] <= counts.thumbs_down <= dislikes[1]
        assert sum(counts.dropped.values()) >= 6
        assert counts.read == len(week.rows)
