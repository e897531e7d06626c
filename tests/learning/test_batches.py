import numpy as np
import torch

from learning_engine.learning.batches import IGNORED, LengthGroupedSampler, Rows, collate, longest_first
from learning_engine.learning.replayed import Replayed


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


def test_an_epoch_adds_its_replayed_rows_to_those_of_the_window():
    old = Replayed(own=100, of_windows=30, of_anchor=10, share=0.2, epochs=2)
    sampler = LengthGroupedSampler(np.full(140, 9), batch_size=8, seed=3, replayed=old)
    assert len(sampler) == 125
    for epoch in range(2):
        sampler.set_epoch(epoch)
        assert sorted(sampler) == [*range(100), *sorted(100 + old.order(3)[25 * epoch :][:25])]


def test_the_longest_come_first():
    lengths = np.array([3, 9, 1, 7, 5])
    assert list(longest_first(lengths, np.array([0, 1, 3, 4]), batch_size=3)) == [[1, 3, 4], [0]]
