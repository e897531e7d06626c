import numpy as np
import pytest
import torch

from learning_engine.learning.batches import IGNORED, LengthGroupedSampler, Rows, collate, longest_first


def test_rows_equal_the_dataset(examples):
    shuffled = examples.shuffle(seed=1).select(range(5, 20))
    rows = Rows(shuffled)
    assert len(rows) == 15
    for index, example in enumerate(shuffled):
        row = rows[index]
        assert (row.input_ids.tolist(), row.labels.tolist()) == (example["input_ids"], example["labels"])
        assert (row.index, row.weight) == (index, example["weight"])
        assert row.supervised == len(example["input_ids"]) - example["prompt_length"]


def test_a_batch_is_padded_on_the_right(examples):
    rows = Rows(examples)
    batch = collate([rows[0], rows[1]])
    width = max(rows.lengths[:2])
    assert batch["input_ids"].shape == batch["labels"].shape == (2, width)
    for place, index in enumerate((0, 1)):
        length = rows.lengths[index]
        assert torch.equal(batch["labels"][place, :length], rows[index].labels)
        assert (batch["labels"][place, length:] == IGNORED).all()
    assert batch["tokens"] == rows.lengths[:2].sum()


def test_an_epoch_holds_each_row_once_in_batches_of_similar_length():
    lengths = np.random.default_rng(0).integers(5, 500, size=1003)
    sampler = LengthGroupedSampler(lengths, batch_size=8, seed=3)
    order = list(sampler)
    assert sorted(order) == list(range(1003))
    assert list(sampler) == order
    sampler.set_epoch(1)
    assert list(sampler) != order
    widths = [np.ptp(lengths[order[start : start + 8]]) for start in range(0, 1000, 8)]
    assert np.mean(widths) < 30
    heads = [lengths[order[start]] for start in range(0, 1000, 8)]
    assert abs(np.corrcoef(np.arange(len(heads)), heads)[0, 1]) < 0.3, "batches come in random order"


@pytest.mark.parametrize(("share", "drawn"), [(0.5, 100), (0.8, 400), (2 / 3, 200), (0.0, 0)])
def test_replayed_rows_are_a_share_of_each_epoch_and_others_each_time(share: float, drawn: int):
    sampler = LengthGroupedSampler(np.full(1000, 9), batch_size=8, seed=3, replayed=900, share=share)
    assert len(sampler) == 100 + drawn
    replayed = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order = sorted(sampler)
        assert order[:100] == list(range(100)), "each row of the window once"
        assert len(order) == len(set(order)) == 100 + drawn
        replayed.append(set(order[100:]))
    assert not replayed[0] & replayed[1]


def test_few_replayed_rows_come_once_in_each_epoch():
    sampler = LengthGroupedSampler(np.full(107, 9), batch_size=8, seed=3, replayed=7, share=0.8)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        assert sorted(sampler) == list(range(107))


def test_the_longest_come_first():
    lengths = np.array([3, 9, 1, 7, 5])
    assert list(longest_first(lengths, np.array([0, 1, 3, 4]), batch_size=3)) == [[1, 3, 4], [0]]
