"""One vote per message and user: the last one, for a table and for a file."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from learning_engine.config.sections import Feedback
from learning_engine.feedback import raw
from learning_engine.feedback.clean import digest

from .conftest import SQL, WITH_PEOPLE, Store, row

SPELLINGS = [
    *("thumbs_up", " Thumbs_UP\n", "LIKE", "+1", "👍", "Very \t GOOD", "very good", "up" + " " * 100),
    "up" + " " * 100 + "x",  # only the first 64 characters count
    *("thumbs_down", "Thumbs_Down", "-1", "👎", " \r\n down \v\f"),
    *("", " ", "meh", "thumbs", "0", "very\u00a0good", "ÜP", "ＵＰ", "lıke", "up" * 50_000, SQL, None),
]


def test_the_last_vote_in_the_window_counts(store: Store) -> None:
    store.fill(
        row(thumb="thumbs_up", time="2026-01-06 10:00"),
        row(thumb="Thumbs_Down ", time="2026-01-06 11:00"),
        row(thumb="meh", time="2026-01-06 12:00"),  # not a vote: neither supersedes nor is superseded
        row(thumb="thumbs_up", time="2026-01-13 12:00"),  # in the next window
        row(answer="Another answer", thumb="thumbs_up", time="2026-01-06 09:00"),
    )
    found = {(one["feedback_type"], one["created_at"].hour): one["superseded"] for one in store.read()}
    assert found == {
        ("thumbs_up", 9): False,
        ("thumbs_up", 10): True,
        ("Thumbs_Down ", 11): False,
        ("meh", 12): False,
    }


def test_each_user_has_a_separate_vote(store: Store) -> None:
    store.fill(
        row(user="ann", time="2026-01-06 10:00"),
        row(user="ann", time="2026-01-06 11:00", thumb="down"),
        row(user="bob", time="2026-01-06 10:30"),
        row(user="Bob", time="2026-01-06 10:20"),
        row(user=None, time="2026-01-06 10:00"),
        row(user=None, time="2026-01-06 10:10"),
    )
    found = store.read(store.feedback(columns=WITH_PEOPLE))
    kept = {(one["user"], one["created_at"].strftime("%H:%M")) for one in found if not one["superseded"]}
    assert kept == {("ann", "11:00"), ("bob", "10:30"), ("Bob", "10:20"), (None, "10:10")}
    assert sum(one["superseded"] for one in found) == 2
    assert [one["superseded"] for one in store.read()].count(
        False
    ) == 1  # without a user column all votes count as one user's


@pytest.mark.parametrize("reverse", [False, True])
def test_at_the_same_instant_the_thumbs_down_counts_in_any_storage_order(store: Store, reverse: bool) -> None:
    votes = [row(thumb="thumbs_up"), row(thumb="thumbs_down"), row(thumb="+1")]
    store.fill(*(votes[::-1] if reverse else votes))
    assert [one["feedback_type"] for one in store.read() if not one["superseded"]] == ["thumbs_down"]


def test_another_spelling_of_the_same_json_is_the_same_message(store: Store) -> None:
    store.fill(
        row({"prompt": "é", "top_p": 1.0}, time="2026-01-06 10:00"),
        row({"top_p": 1.0, "prompt": "é"}, time="2026-01-06 11:00"),
        row({"prompt": "é", "top_p": 1}, time="2026-01-06 12:00"),  # a different number in jsonb, too
    )
    assert [one["superseded"] for one in store.read()] == [True, False, False]


def test_source_and_cleaning_accept_the_same_spellings(store: Store) -> None:
    settings = store.feedback(thumbs_up=(*Feedback().thumbs_up, "very good"))
    store.fill(
        *(row(f"{i}", thumb="up", time="2026-01-06 10:00") for i in range(len(SPELLINGS))),
        *(row(f"{i}", thumb=spelling, time=f"2026-01-06 11:00:{i:02}") for i, spelling in enumerate(SPELLINGS)),
    )
    found = store.read(settings)
    superseded = {one["message"] for one in found if one["superseded"]}
    ratings = raw.ratings(settings)
    later = {one["message"]: one["feedback_type"] for one in found if one["created_at"].hour == 11}
    assert superseded == {message for message, thumb in later.items() if raw.fold(thumb or "") in ratings}
    assert len(superseded) == 14


def test_a_user_s_cap_counts_messages_and_keeps_the_earliest(store: Store, tmp_path: Path) -> None:
    store.fill(
        *(row(f"question {i}", user="ann", time=f"2026-01-06 10:0{i}") for i in range(5)),
        row("question 0", user="ann", time="2026-01-06 10:09", thumb="down"),  # ann votes again: her last vote
        *(row(f"question {i}", user="bob", time=f"2026-01-06 10:0{i}") for i in range(2)),
        *(row(f"question {i}", time=f"2026-01-06 10:0{i}") for i in range(4)),
    )
    path = tmp_path / "snapshot.parquet"
    counts = store.snapshot(path, store.feedback(columns=WITH_PEOPLE, cap_per_user=3, min_agreement=None))
    assert counts.dropped == {"superseded": 1, "over_user_cap": 2}
    table = pq.read_table(path).to_pylist()
    assert Counter(one["user"] for one in table) == {digest("ann"): 3, digest("bob"): 2, None: 4}
    assert [one["created_at"].minute for one in table if one["user"] == digest("ann")] == [1, 2, 3]
