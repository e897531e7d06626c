"""Which old rows a training replays in each epoch, by how many there are."""

import numpy as np
import pytest

from learning_engine.learning.replayed import Replayed, rows_to_replay


def counts(old: Replayed) -> tuple[np.ndarray, np.ndarray]:
    """How often a training has each row of earlier windows, and each of the anchor."""
    order = old.order(seed=3)
    assert len(order) == old.epochs * old.per_epoch
    found = np.bincount(order, minlength=old.of_windows + old.of_anchor)
    return found[: old.of_windows], found[old.of_windows :]


@pytest.mark.parametrize(("share", "rows"), [(0.5, 100), (0.8, 400), (2 / 3, 200), (0.0, 0)])
def test_replayed_rows_are_the_configured_share_of_an_epoch(share: float, rows: int):
    old = Replayed(own=100, of_windows=900, of_anchor=0, share=share, epochs=2)
    assert old.per_epoch == rows == rows_to_replay(100, share)
    assert len(set(old.order(seed=3))) == 2 * rows, "every epoch has others"
    assert old.note() is None


def test_where_there_are_enough_each_row_comes_once_in_the_order_of_one_shuffle():
    old = Replayed(own=100, of_windows=300, of_anchor=100, share=0.5, epochs=4)
    assert old.order(seed=3).tolist() == np.random.default_rng(3).permutation(400).tolist()
    assert old.note() is None


@pytest.mark.parametrize(("of_windows", "of_anchor"), [(3000, 300), (1000, 300), (800, 1000)])
def test_rows_repeat_evenly_to_reach_both_shares(of_windows: int, of_anchor: int):
    """A thousand rows of a window in four epochs, so the anchor's quarter is a thousand of four thousand."""
    old = Replayed(own=1000, of_windows=of_windows, of_anchor=of_anchor, share=0.5, epochs=4)
    windows, anchor = counts(old)
    assert (old.per_epoch, windows.sum(), anchor.sum()) == (1000, 3000, 1000)
    for each in (windows, anchor):
        assert each.max() - each.min() <= 1
        assert each.max() <= 4
    assert old.note() is None


def test_no_row_comes_again_before_every_other_of_its_kind():
    old = Replayed(own=40, of_windows=50, of_anchor=12, share=0.5, epochs=4)
    order = old.order(seed=3)
    for kind, rows in ((order[order < 50], 50), (order[order >= 50], 12)):
        passes = [kind[start : start + rows] for start in range(0, len(kind), rows)]
        assert len(passes) > 1
        assert all(len(set(each)) == len(each) for each in passes)


def test_every_part_of_the_training_has_the_anchors_share():
    order = Replayed(own=1000, of_windows=3000, of_anchor=300, share=0.5, epochs=4).order(seed=3)
    shares = (order.reshape(4, 1000) >= 3000).mean(axis=1)
    assert shares == pytest.approx([0.25] * 4, abs=0.05)


def test_no_old_row_comes_more_often_than_one_of_the_window():
    old = Replayed(own=100_000, of_windows=1000, of_anchor=300, share=0.5, epochs=4)
    windows, anchor = counts(old)
    assert {*windows, *anchor} == {4}
    note = str(old.note())
    assert "1.3%" in note
    assert "50.0%" in note
    assert "1000 rows of earlier windows and 300 of the anchor" in note


def test_rows_of_earlier_windows_take_the_places_of_an_anchor_that_is_too_small():
    old = Replayed(own=10_000, of_windows=38_800, of_anchor=300, share=0.5, epochs=4)
    windows, anchor = counts(old)
    assert ({*windows}, {*anchor}, old.per_epoch) == ({1}, {4}, 10_000)
    note = str(old.note())
    assert "3.0% of the replayed rows" in note
    assert "25.0%" in note


def test_the_anchors_rows_take_the_places_of_missing_windows():
    first = Replayed(own=100, of_windows=0, of_anchor=100, share=0.5, epochs=4)
    assert {*counts(first)[1]} == {4}
    assert first.note() is None
    large = Replayed(own=1000, of_windows=0, of_anchor=300, share=0.5, epochs=4)
    assert large.per_epoch == 300
    assert "23.1%" in str(large.note())
    none = Replayed(own=50, of_windows=0, of_anchor=0, share=0.5, epochs=4)
    assert (none.per_epoch, len(none.order(seed=3))) == (0, 0)
