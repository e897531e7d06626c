"""Suspicious rows are set aside: bursts, contradictions and votes over a user's cap; the same from table and file."""

import hashlib
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from learning_engine.config.sections import Feedback
from learning_engine.feedback import snapshot, steering
from learning_engine.feedback.clean import Row, digest
from learning_engine.feedback.shapes import Message
from learning_engine.feedback.source import read
from learning_engine.feedback.steering import VERDICTS, Votes
from learning_engine.feedback.table import QUARANTINE, SCHEMA

from .conftest import WINDOW, WITH_PEOPLE, Lines, Store, row
from .test_snapshot import PEOPLE, batches, raw_rows

MINUTE = 60 * 10**6
OFF = {"burst_votes": None, "min_agreement": None, "cap_per_user": None}


def votes(*rows: tuple[int, str, str | None, int]) -> Votes:
    """Rows of (microseconds, text, user, rating), in time order."""
    found = Votes()
    for at, text, user, rating in rows:
        who = None if user is None else digest(user)
        found.append(Row(at, digest(f"{at} {text} {user}"), digest(text), who, [], text, rating), text=digest(text))
    return found


def judged(found: Votes, **settings: Any) -> list[str]:
    return [VERDICTS[verdict] for verdict in steering.judge(found, Feedback(**(OFF | settings)))]


def at(minutes: float, text: str = "", user: str | None = "ann", thumb: str = "up") -> dict[str, Any]:
    time = WINDOW.start + timedelta(minutes=minutes)
    return row(f"question {minutes} {user} {text}", time=f"{time:%Y-%m-%d %H:%M:%S.%f}", user=user, thumb=thumb)


def written(store: Store, folder: Path, **settings: Any) -> tuple[snapshot.Counts, list[Any], list[Any]]:
    """The counts, the snapshot's rows and the quarantine's."""
    feedback = store.feedback(columns=WITH_PEOPLE, **settings)
    path, aside = folder / "snapshot.parquet", folder / "quarantine.parquet"
    counts = snapshot.write(
        read(store.source, WINDOW, feedback), path, feedback=feedback, heldout_fraction=0.5, quarantine=aside
    )
    assert pq.read_schema(path).equals(SCHEMA)
    assert pq.read_schema(aside).equals(QUARANTINE)
    assert counts.read == counts.rows + sum(counts.dropped.values()) + sum(counts.quarantined.values())
    return counts, pq.read_table(path).to_pylist(), pq.read_table(aside).to_pylist()


def test_a_whole_burst_is_set_aside_and_no_other_user_s_votes(store: Store, tmp_path: Path) -> None:
    spam = [at(100 + 0.1 * i, user="spam") for i in range(6)]
    honest = [at(100 + 0.1 * i, user=f"user {i}") for i in range(6)] + [at(100 + i, user=None) for i in range(6)]
    store.fill(*spam, *honest, at(99.9, user="spam"), at(90, user="spam"), at(110, user="spam"))
    counts, kept, aside = written(store, tmp_path, burst_votes=5, burst_minutes=1)
    assert counts.quarantined == {"burst": 7}
    assert (counts.rows, counts.users) == (14, 7)
    assert {one["user"] for one in aside} == {digest("spam")}
    assert {(one["reason"], one["heldout"]) for one in aside} == {("burst", False)}
    assert sorted(one["created_at"].minute for one in kept if one["user"] == digest("spam")) == [30, 50]


def test_the_allowed_number_of_votes_is_no_burst(store: Store, tmp_path: Path) -> None:
    store.fill(*(at(i) for i in range(10)))
    assert written(store, tmp_path, burst_votes=10, burst_minutes=60)[0].quarantined == {}
    # One vote a minute: never eleven within the hour, but three within two minutes, both ends included.
    assert written(store, tmp_path, burst_votes=2, burst_minutes=2)[0].quarantined == {"burst": 10}
    assert written(store, tmp_path, burst_votes=2, burst_minutes=1.99)[0].quarantined == {}


@pytest.mark.parametrize(
    ("ups", "downs", "agreement", "kept"),
    [
        (1, 1, 0.75, []),
        (2, 1, 0.75, []),
        (3, 1, 0.75, [1, 1, 1]),
        (1, 3, 0.75, [-1, -1, -1]),
        (9, 1, 0.9, [1] * 9),
        (8, 1, 0.9, []),
        (9, 1, 1.0, []),
        (9, 1, None, [1] * 9 + [-1]),
        (3, 0, 0.75, [1, 1, 1]),
        (2, 2, 0.51, []),
    ],
)
def test_a_clear_majority_of_contradictory_votes_is_kept(
    tmp_path: Path, ups: int, downs: int, agreement: float | None, kept: list[int]
) -> None:
    store = Lines(tmp_path / "feedback.jsonl")
    thumbs = ["up"] * ups + ["down"] * downs
    store.fill(*(row(thumb=thumb, user=f"user {i}") for i, thumb in enumerate(thumbs)), row("another", thumb="down"))
    counts, rows, aside = written(store, tmp_path, min_agreement=agreement)
    assert sorted((one["rating"] for one in rows if one["user"]), reverse=True) == kept
    assert counts.quarantined == ({"contradictory": len(thumbs) - len(kept)} if len(thumbs) > len(kept) else {})
    assert {one["reason"] for one in aside} <= {"contradictory"}


def test_the_same_answer_is_recognised_in_every_logged_shape(store: Store, tmp_path: Path) -> None:
    logged = {"id": "chatcmpl-1", "choices": [{"message": {"role": "assistant", "content": "Hi!"}}]}
    store.fill(
        row("Hello?", "Hi!", user="ann"),
        row({"messages": [{"role": "user", "content": "Hello?"}]}, logged, "down", user="bob"),
        row({"messages": [{"role": "user", "content": "Hello!"}]}, logged, "down", user="bob"),
        row("Hello?", "Hi", "down", user="bob"),
    )
    counts, kept, _ = written(store, tmp_path)
    assert counts.quarantined == {"contradictory": 2}
    assert len(kept) == 2


def test_a_vote_that_its_user_changed_contradicts_nobody(store: Store, tmp_path: Path) -> None:
    store.fill(
        row(user="ann", thumb="down", time="2026-01-06 10:00"),
        row(user="ann", thumb="up", time="2026-01-06 10:01"),
        row(user="bob", thumb="up", time="2026-01-06 10:02"),
    )
    assert written(store, tmp_path)[0].quarantined == {}


def test_votes_of_unknown_users_are_never_set_aside(store: Store, tmp_path: Path) -> None:
    store.fill(
        *(row(f"question {i}") for i in range(100)), row("same", thumb="up", user="ann"), row("same", thumb="down")
    )
    counts, _, _ = written(store, tmp_path, burst_votes=5, cap_per_user=5)
    assert (counts.quarantined, counts.dropped, counts.rows, counts.users) == ({}, {}, 102, 1)


def test_a_burst_cannot_outvote_other_users() -> None:
    spam = [(i, f"text {i}", "spam", -1) for i in range(10)]
    honest = [(20, f"text {i}", f"user {i}", 1) for i in range(10)]
    assert judged(votes(*spam, *honest), burst_votes=5, min_agreement=0.75) == ["burst"] * 10 + ["kept"] * 10
    assert judged(votes(*spam, *honest), min_agreement=0.75) == ["contradictory"] * 20


def test_a_user_counts_once_on_each_side_however_many_votes() -> None:
    many = [(i, "text", "spam", -1) for i in range(9)]
    others = [(10 + i, "text", f"user {i}", 1) for i in range(3)]
    assert judged(votes(*many, *others), min_agreement=0.75) == ["contradictory"] * 9 + ["kept"] * 3


def test_the_cap_counts_only_votes_that_are_not_quarantined() -> None:
    found = votes((0, "a", "ann", 1), (1, "a", "bob", -1), *((2 + i, f"{i}", "ann", 1) for i in range(4)))
    assert judged(found, min_agreement=0.75, cap_per_user=3) == ["contradictory"] * 2 + ["kept"] * 3 + ["over_user_cap"]


def test_null_switches_each_rule_off() -> None:
    found = votes(*((0, "a", "ann", (-1) ** i) for i in range(10)))
    assert judged(found) == ["kept"] * 10


@pytest.mark.parametrize("seed", range(20))
def test_bursts_and_contradictions_match_a_direct_implementation(seed: int) -> None:
    chance = np.random.default_rng(seed)
    times = np.sort(chance.integers(0, 30 * MINUTE, size=120))
    rows = [
        (int(time), f"text {chance.integers(12)}", [None, "ann", "bob", "cid"][chance.integers(4)], int(side))
        for time, side in zip(times, chance.choice([-1, 1], size=120), strict=True)
    ]
    most, span, agreement = int(chance.integers(1, 9)), 3 * MINUTE, float(chance.choice([0.51, 0.67, 1.0]))

    def bursting(index: int) -> bool:
        mine = [time for time, _, user, _ in rows if user == rows[index][2]]
        stretches = ([time for time in mine if start <= time <= start + span] for start in mine)
        return rows[index][2] is not None and any(len(s) > most and s[0] <= rows[index][0] <= s[-1] for s in stretches)

    aside = {index for index in range(len(rows)) if bursting(index)}

    def verdict(index: int) -> str:
        _, text, user, side = rows[index]
        if index in aside:
            return "burst"
        voters = {(u, r) for i, (_, t, u, r) in enumerate(rows) if t == text and u and i not in aside}
        sides = Counter(r for _, r in voters)
        agreed = user is None or len(sides) < 2 or sides[side] / len(voters) >= agreement
        return "kept" if agreed else "contradictory"

    expected = [verdict(index) for index in range(len(rows))]
    assert judged(votes(*rows), burst_votes=most, burst_minutes=3, min_agreement=agreement) == expected


def test_the_bytes_of_both_files_do_not_depend_on_the_batches(tmp_path: Path) -> None:
    feedback = PEOPLE.model_copy(update={"burst_votes": 3, "burst_minutes": 0.5, "cap_per_user": 10})
    rows = raw_rows(
        3000,
        user=lambda i: f"u{i % 50 if i % 300 > 20 else 1}",
        request=lambda i: f'"question {i // 2}"',
        response=lambda i: '"answer"',
        feedback_type=lambda i: ["up", "down", "up"][i % 3],
    )
    found = set()
    for size in (1000, 7, 3000):
        path, aside = tmp_path / f"{size}", tmp_path / f"{size}-aside"
        counts = snapshot.write(batches(rows, size), path, feedback=feedback, heldout_fraction=0.1, quarantine=aside)
        assert set(counts.quarantined) == {"burst", "contradictory"}
        assert counts.dropped["over_user_cap"]
        found.add((*(hashlib.sha256(file.read_bytes()).hexdigest() for file in (path, aside)), str(counts)))
    assert len(found) == 1


def test_texts_are_kept_unchanged(tmp_path: Path) -> None:
    store = Lines(tmp_path / "feedback.jsonl")
    asked = [{"role": "system", "content": "line\nfeed \u2028 \x85"}, {"role": "user", "content": 'quote " \\ 日本 🙂'}]
    store.fill(row({"messages": asked}, "tab\t\r\n", user="ann"))
    _, (kept,), _ = written(store, tmp_path)
    assert kept["messages"] == asked == [dict(Message(**one)._asdict()) for one in kept["messages"]]
    assert kept["answer"] == "tab\t\r\n"
