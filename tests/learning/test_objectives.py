import pytest
import torch
from torch.nn import functional

from learning_engine.learning.batches import IGNORED, Rows, collate
from learning_engine.learning.forward import supervised_logits
from learning_engine.learning.objectives import WeightedSft


@pytest.fixture(scope="module")
def batch(examples):
    rows = Rows(examples)
    return collate([rows[index] for index in range(12)])


def test_logits_equal_those_of_a_plain_masked_forward_pass(load, adapter, batch):
    model = load(adapter).model
    lengths = (batch["labels"] != IGNORED).long().argmax(1) + (batch["labels"] != IGNORED).sum(1)
    mask = (torch.arange(batch["labels"].shape[1])[None] < lengths[:, None]).long()
    assert (mask == 0).any(), "some row must be padded"
    logits, tokens, rows = supervised_logits(model, batch["input_ids"], batch["labels"])
    full = model(input_ids=batch["input_ids"], attention_mask=mask).logits[:, :-1]
    supervised = batch["labels"][:, 1:] != IGNORED
    torch.testing.assert_close(logits, full[supervised], rtol=1e-5, atol=1e-5)
    assert torch.equal(tokens, batch["labels"][:, 1:][supervised])
    assert rows.tolist() == [row for row, count in enumerate(supervised.sum(1)) for _ in range(count)]


def test_the_loss_is_the_weighted_mean_over_supervised_tokens(load, adapter, batch):
    model = load(adapter).model
    full = model(input_ids=batch["input_ids"]).logits[:, :-1]
    losses = functional.cross_entropy(full.transpose(1, 2), batch["labels"][:, 1:], reduction="none")
    weights = batch["weight"][:, None] * (batch["labels"][:, 1:] != IGNORED)
    assert set(batch["weight"].tolist()) == {2.0, 0.5}
    found = WeightedSft()(model, batch) / batch["supervised_weight"]
    assert found.item() == pytest.approx(((losses * weights).sum() / weights.sum()).item(), abs=1e-5)
    assert batch["supervised_weight"] == pytest.approx(weights.sum().item())


def test_equal_weights_give_the_loss_of_transformers(load, adapter, batch):
    model = load(adapter).model
    equal = {**batch, "weight": torch.ones(12), "supervised_weight": batch["supervised"]}
    own = model(input_ids=batch["input_ids"], labels=batch["labels"]).loss
    found = WeightedSft()(model, equal) / equal["supervised_weight"]
    assert found.item() == pytest.approx(own.item(), abs=1e-5)


def test_micro_batches_add_up_to_the_whole_batch(load, adapter, batch, examples):
    model = load(adapter).model
    rows = Rows(examples)
    parts = [collate([rows[index] for index in part]) for part in ([0, 1], [2, 3, 4, 5, 6], [7, 8, 9, 10, 11])]
    whole = sum(part["supervised_weight"] for part in parts)
    summed = sum(WeightedSft()(model, part) for part in parts) / whole
    assert summed.item() == pytest.approx((WeightedSft()(model, batch) / batch["supervised_weight"]).item(), abs=1e-5)
