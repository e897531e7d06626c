"""Find the rows of a window that could manipulate the model, and those beyond a user's cap.

`burst`: more than `feedback.burst_votes` votes of one user within `feedback.burst_minutes`. All of them are set aside.
`contradictory`: the same answer to the same prompt is rated up and down. If at least `feedback.min_agreement` of its
voters agree, only the minority's votes are set aside, otherwise all of them. A user counts once on each side, and votes
in a burst do not count, so that spam cannot outvote other users.
`over_user_cap`: a user's votes beyond `feedback.cap_per_user`; the earliest are kept.

Votes without a known user are never set aside, since their voters cannot be distinguished. The whole
window is judged at once, from 33 bytes per row, so that a verdict depends neither on the batches nor on the source.
"""

from array import array
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from learning_engine.config.sections import Feedback
from learning_engine.feedback.clean import Row

VERDICTS = ("kept", "burst", "contradictory", "over_user_cap")
KEPT, BURST, CONTRADICTORY, OVER_USER_CAP = range(len(VERDICTS))
QUARANTINED = (BURST, CONTRADICTORY)
UNKNOWN = 0
MICROSECONDS = 60 * 10**6

Flags = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.uint64]
Verdicts = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Votes:
    """A window's rows in time order. Ids are the first eight bytes of digests; a `user` of 0 is unknown."""

    created_at: "array[int]" = field(default_factory=lambda: array("q"))
    text: "array[int]" = field(default_factory=lambda: array("Q"))
    user: "array[int]" = field(default_factory=lambda: array("Q"))
    conversation: "array[int]" = field(default_factory=lambda: array("Q"))
    rating: "array[int]" = field(default_factory=lambda: array("b"))

    def append(self, row: Row, *, text: str) -> None:
        """`text` is the sha256 of prompt and answer."""
        self.created_at.append(row.created_at)
        self.text.append(_id(text))
        self.user.append(UNKNOWN if row.user is None else _id(row.user))
        self.conversation.append(_id(row.conversation))
        self.rating.append(row.rating)


def judge(votes: Votes, feedback: Feedback) -> Verdicts:
    """Each row's verdict as an index into VERDICTS, (rows,)."""
    user, text = np.array(votes.user, np.uint64), np.array(votes.text, np.uint64)
    verdicts = np.full(len(user), KEPT, np.uint8)

    def undecided() -> npt.NDArray[np.intp]:
        return np.flatnonzero((user != UNKNOWN) & (verdicts == KEPT))

    if feedback.burst_votes is not None:
        rows, times = undecided(), np.array(votes.created_at, np.int64)
        span = round(feedback.burst_minutes * MICROSECONDS)
        verdicts[rows[_bursts(user[rows], times[rows], most=feedback.burst_votes, span=span)]] = BURST
    if feedback.min_agreement is not None:
        rows, up = undecided(), np.array(votes.rating, np.int8) > 0
        verdicts[rows[_contradictory(text[rows], user[rows], up[rows], feedback.min_agreement)]] = CONTRADICTORY
    if feedback.cap_per_user is not None:
        rows = undecided()
        verdicts[rows[_rank(user[rows]) >= feedback.cap_per_user]] = OVER_USER_CAP
    return verdicts


def _bursts(user: Ids, times: npt.NDArray[np.int64], *, most: int, span: int) -> Flags:
    """The rows within some interval of `span` microseconds, both ends included, that holds more than `most` rows of
    the same user. `times` ascend."""
    inside = np.zeros(len(user), bool)
    if len(user) <= most:
        return inside
    order = np.argsort(user, kind="stable")
    users, at = user[order], times[order]
    first = np.flatnonzero((users[most:] == users[:-most]) & (at[most:] - at[:-most] <= span))
    edges = np.zeros(len(user) + 1, np.int64)
    edges[first] += 1
    edges[first + most + 1] -= 1
    inside[order] = np.cumsum(edges[:-1]) > 0
    return inside


def _contradictory(text: Ids, user: Ids, up: Flags, agreement: float) -> Flags:
    """The rows whose text is rated both ways, except those of a majority of at least `agreement`."""
    _, group = np.unique(text, return_inverse=True)
    sides = [np.bincount(group, weights=side) > 0 for side in (up, ~up)]
    contested = (sides[0] & sides[1])[group]
    voters = np.unique(np.stack([group[contested].astype(np.uint64), user[contested], up[contested]]), axis=1)
    texts = voters[0].astype(np.intp)
    ups, all_ = (np.bincount(texts, weights=weights, minlength=len(sides[0])) for weights in (voters[2], None))
    share = np.maximum(ups, all_ - ups) / np.maximum(all_, 1)
    outvoted: Flags = (share < agreement)[group] | (up != (2 * ups > all_)[group])
    return contested & outvoted


def _rank(user: Ids) -> npt.NDArray[np.intp]:
    """For each row, the number of earlier rows of the same user."""
    order = np.argsort(user, kind="stable")
    _, first, counts = np.unique(user[order], return_index=True, return_counts=True)
    rank = np.empty(len(user), np.intp)
    rank[order] = np.arange(len(user)) - np.repeat(first, counts)
    return rank


def _id(digest: str) -> int:
    return int(digest[:16], 16)
