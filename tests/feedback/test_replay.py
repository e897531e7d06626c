"""Which rows of a window are kept for replay, and how they are added to a later window."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from learning_engine.feedback import replay
from learning_engine.feedback.table import SCHEMA, TRAINED

from .conftest import WITH_PEOPLE, Lines, row

Rows = list[dict[str, Any]]


@pytest.fixture
def window(tmp_path: Path) -> Path:
    """A snapshot of sixty rows in twenty conversations; every fourth thumb is down, some rows are held out."""
    lines = Lines(tmp_path / "feedback.jsonl")
    thumbs = ("thumbs_down", "thumbs_up", "thumbs_up", "thumbs_up")
    lines.fill(
        *(row(f"question {i}", thumb=thumbs[i % 4], user=f"u{i % 3}", conversation=f"c{i % 20}") for i in range(60))
    )
    path = tmp_path / "snapshot.parquet"
    lines.snapshot(path, lines.feedback(columns=WITH_PEOPLE))
    return path


def rows_of(path: Path) -> Rows:
    rows: Rows = pq.read_table(path).to_pylist()
    return rows


def draw(window: Path, size: int, seed: int = 1) -> Rows:
    target = window.with_name("replay.parquet")
    assert replay.draw(window, target, size=size, seed=seed) == pq.read_table(target).num_rows
    return rows_of(target)


def put(path: Path, rows: Rows) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)
    return path


def drawable(window: Path) -> Rows:
    return [one for one in rows_of(window) if one["rating"] > 0 and not one["heldout"]]


def test_liked_rows_that_are_not_held_out_are_drawn_in_their_order(window: Path) -> None:
    rows, candidates = rows_of(window), drawable(window)
    assert {one["rating"] for one in rows if one["heldout"]} == {1, -1}
    assert draw(window, 1000) == candidates != []
    assert pq.read_schema(window.with_name("replay.parquet")).equals(SCHEMA)
    few = draw(window, 5)
    assert len(few) == 5
    assert few == [one for one in candidates if one in few]


def test_the_draw_depends_on_the_seed_and_not_on_the_order_of_the_rows(window: Path) -> None:
    first = draw(window, 5)
    target = window.with_name("replay.parquet")
    before = target.read_bytes()
    assert draw(window, 5) == first
    assert target.read_bytes() == before
    assert draw(window, 5, seed=2) != first
    shuffled = np.random.default_rng(0).permutation(rows_of(window)).tolist()
    put(window, shuffled)
    assert sorted(draw(window, 5), key=lambda one: one["message"]) == sorted(first, key=lambda one: one["message"])


def test_a_conversation_gives_a_second_row_only_after_each_has_given_one(window: Path) -> None:
    conversations = {one["conversation"] for one in drawable(window)}
    count = len(conversations)
    assert count < len(drawable(window))
    assert {one["conversation"] for one in draw(window, count)} == conversations
    assert len(draw(window, count + 3)) == count + 3


def test_a_message_that_several_users_liked_is_drawn_once(window: Path) -> None:
    one = drawable(window)[0]
    users = [{**one, "user": letter * 64} for letter in "ba"]
    put(window, users)
    assert draw(window, 10) == [users[1]]  # whichever comes first in the window
    put(window, users[::-1])
    assert draw(window, 10) == [users[1]]


def logged(window: Path, *thumbs: str) -> Rows:
    """The same question and answer, rated by one user after another, from a log that names every response."""
    lines = Lines(window.with_name("logged.jsonl"))
    answers = [
        {"id": f"chatcmpl-{number}", "created": number, "choices": [{"message": {"content": "Hi!"}}]}
        for number in range(len(thumbs))
    ]
    lines.fill(*(row("Hello?", answer, thumb=thumb) for answer, thumb in zip(answers, thumbs, strict=True)))
    path = window.with_name("logged.parquet")
    lines.snapshot(path, lines.feedback(min_agreement=None))
    rows = [{**one, "heldout": False} for one in rows_of(path)]
    assert len({one["message"] for one in rows}) == len(thumbs)
    return sorted(rows, key=lambda one: -one["rating"])


def test_a_text_that_was_logged_under_several_ids_is_drawn_once(window: Path) -> None:
    other = drawable(window)[0]
    put(window, [*logged(window, "thumbs_up", "thumbs_up", "thumbs_up"), other])
    drawn = draw(window, 10)
    assert len(drawn) == 2
    assert other in drawn


def test_a_text_is_no_longer_replayed_once_it_was_disliked_under_another_id(window: Path) -> None:
    liked, disliked = logged(window, "thumbs_up", "thumbs_down")
    other, *_ = drawable(window)
    kept = put(window.with_name("kept.parquet"), [liked, other])
    put(window, [disliked])
    assert join(window, [liked, other]) == [other], "the newer rating counts"
    target = window.with_name("second.parquet")
    assert replay.draw(window, target, size=0, seed=1, earlier=[kept]) == 1
    second = rows_of(target)
    assert second == [disliked]
    put(window, [])
    assert join(window, [liked, other], second) == [other]
    assert join(window, [liked], [{**liked, "message": "f" * 64}]) == [{**liked, "message": "f" * 64}]


def test_a_window_without_liked_rows_gives_none(window: Path) -> None:
    put(window, [one for one in rows_of(window) if one["rating"] < 0])
    assert draw(window, 10) == []


def join(
    window: Path,
    *reservoirs: Rows,
    size: int = 1000,
    seed: str = "",
    heldout_fraction: float = 0.0,
    anchor: Path | None = None,
    passes: int = 1,
) -> Rows:
    """The rows that follow the window's own."""
    target, own = window.with_name("joined.parquet"), rows_of(window)
    paths = [put(window.with_name(f"replay-{number}.parquet"), rows) for number, rows in enumerate(reservoirs)]
    found = replay.join(
        window,
        paths,
        anchor,
        target,
        size=size,
        of_anchor=size // 4,
        passes=passes,
        seed=seed,
        heldout_fraction=heldout_fraction,
    )
    table = pq.read_table(target)
    assert table.schema.equals(TRAINED)
    assert not any(table["unfinished"].to_pylist())
    joined: Rows = table.select(SCHEMA.names).to_pylist()
    others = joined[len(own) :]
    assert (joined[: len(own)], sum(found)) == (own, len(others))
    assert [row["message"].startswith("base ") for row in others] == [False] * found[0] + [True] * found[1]
    return others


def test_replayed_rows_follow_those_of_the_window_and_no_message_appears_twice(window: Path) -> None:
    a, b, c, *rest = drawable(window)
    put(window, rest)
    assert join(window, [a, b], [b, c]) == [b, c, a]
    assert join(window) == []


def test_each_training_draws_as_many_rows_as_it_needs_from_all_windows(window: Path) -> None:
    kept = drawable(window)
    put(window, [])
    weeks = kept[::2], kept[1::2]
    first = join(window, *weeks, size=12, seed="this week's run")
    assert len(first) == 12
    assert all(any(row in week for row in first) for week in weeks)
    assert join(window, *weeks, size=12, seed="this week's run") == first
    assert join(window, *weeks, size=12, seed="next week's run") != first


def written(window: Path, rows: Rows) -> Path:
    """An anchor, of which every fourth row is held out."""
    of_base = [{**row, "message": f"base {row['message']}", "heldout": n % 4 == 0} for n, row in enumerate(rows)]
    return put(window.with_name("anchor.parquet"), of_base)


def test_the_anchor_has_its_part_of_the_replayed_rows(window: Path) -> None:
    kept = drawable(window)
    put(window, [])
    anchor = written(window, kept)
    found = join(window, kept, size=12, seed="a", anchor=anchor)
    of_anchor = [row for row in found if row["message"].startswith("base ")]
    assert (len(of_anchor), len(found)) == (3, 12)
    assert not any(row["heldout"] for row in of_anchor)
    other = join(window, kept, size=12, seed="b", anchor=anchor)
    assert [row for row in other if row["message"].startswith("base ")] != of_anchor
    assert len(join(window, size=12, anchor=anchor)) == 3, "the first version has no other rows to replay"


@pytest.mark.parametrize(("passes", "of_windows"), [(1, 17), (2, 15), (4, 15)])
def test_windows_get_the_places_that_a_small_anchor_cannot_take(window: Path, passes: int, of_windows: int) -> None:
    kept = drawable(window)
    put(window, [])
    found = join(window, kept, size=20, anchor=written(window, kept[:4]), passes=passes)
    assert len(found) == of_windows + 3, "three rows take up to five places"


def test_a_rating_in_this_window_replaces_the_earlier_one(window: Path) -> None:
    a, b, *_ = drawable(window)
    put(window, [{**a, "rating": -1}])
    assert join(window, [a, b]) == [b]


def test_a_message_that_is_disliked_later_is_no_longer_replayed(window: Path) -> None:
    a, b, c, *rest = drawable(window)
    kept = put(window.with_name("kept.parquet"), [a, b])
    again = {**a, "rating": -1}
    put(window, [again, {**c, "rating": -1}, {**b, "rating": -1}, {**b, "user": "0" * 64}])
    target = window.with_name("second.parquet")
    assert replay.draw(window, target, size=0, seed=1, earlier=[kept]) == 1
    second = rows_of(target)
    assert second == [again], "rows outside the reservoir and rows that a user still likes are not withdrawn"
    put(window, rest)
    assert join(window, [a, b], second) == [b]
    assert join(window, second, [a]) == [a], "liked again since"


def test_a_conversation_that_is_held_out_now_is_not_replayed(window: Path) -> None:
    low, high, other = drawable(window)[:3]
    low, high = {**low, "conversation": "1" * 64}, {**high, "conversation": "e" * 64}
    put(window, [other])
    assert join(window, [low, high], heldout_fraction=0.5) == [high]
