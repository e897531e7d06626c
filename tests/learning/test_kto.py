import math

import datasets
import numpy as np
import pytest
import torch
from trl import KTOConfig, KTOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from learning_engine.learning.batches import IGNORED, Rows, collate
from learning_engine.learning.kto import Kto, answer_log_probs, kto_losses, mismatch
from learning_engine.learning.model import lora_weights

BETA = 0.3
# Seeds of a weight change that makes answers less likely everywhere, or mismatched answers more likely (kl > 0).
SEEDS = NO_KL, KL = 0, 4
# float32 represents a log-probability of -60 to 4e-6; the direction of rounding depends on the processor's kernels.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def rows(examples) -> Rows:
    return Rows(examples)


def prepared(loaded, rows: Rows, *, used: range | None = None, beta: float = BETA) -> Kto:
    objective = Kto(beta=beta, seed=17, batch_size=4)
    assert objective.prepare(loaded, rows, np.array(used or range(len(rows)))) == []
    return objective


def move(loaded, *, seed: int = 0, scale: float = 0.05) -> None:
    """Move the weights away from those of the reference."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in lora_weights(loaded.model).values():
            weight += scale * torch.randn(weight.shape, generator=generator)


def batch_of(rows: Rows, *indices: int):
    return collate([rows[index] for index in indices])


def loss_of(objective: Kto, model, *batches) -> torch.Tensor:
    scale = objective.begin_step(model, batches)
    return sum(objective(model, batch) for batch in batches) / scale


def log_prob(model, tokens: list[int], prompt: int) -> float:
    """The log-probability from the model's logits, one sequence at a time."""
    logits = model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
    return sum(logits[place - 1, tokens[place]].item() for place in range(prompt, len(tokens)))


def test_the_loss_equals_the_formula_by_hand(load, adapter, examples, rows):
    objective, loaded, parent = prepared(reference := load(adapter), rows), reference, load(adapter, trainable=False)
    move(loaded)
    chosen = list(range(12))
    matched, mismatched = [], []
    for index in chosen:
        own, other = examples[index], examples[objective.partner[index]]
        prompt = own["input_ids"][: own["prompt_length"]]
        for changes, answer in ((matched, own), (mismatched, other)):
            tokens = prompt + answer["input_ids"][answer["prompt_length"] :]
            of = [log_prob(view.model, tokens, len(prompt)) for view in (loaded, parent)]
            changes.append(of[0] - of[1])
    kl = max(0.0, sum(mismatched) / len(mismatched))
    losses = []
    for index, change in zip(chosen, matched, strict=True):
        liked = examples[index]["rating"] == 1
        gain = BETA * (change - kl if liked else kl - change)
        losses.append((2.0 if liked else 0.5) * (1 - 1 / (1 + math.exp(-gain))))
    assert {examples[index]["rating"] for index in chosen} == {1, -1}
    found = loss_of(objective, loaded.model, batch_of(rows, *chosen))
    assert found.item() == pytest.approx(sum(losses) / len(losses), abs=1e-5)
    assert max(map(abs, matched)) > 0.1


@pytest.fixture
def trl(load, adapter, tmp_path):
    """TRL's trainer on the same adapter; its reference is a copy of the initial adapter."""
    loaded = load(adapter, lora={"dropout": 0.0})
    rows = [{"prompt": "Why?", "completion": " So.", "label": bool(row % 2)} for row in range(4)]
    return KTOTrainer(
        model=loaded.model,
        args=KTOConfig(
            output_dir=str(tmp_path),
            beta=BETA,
            desirable_weight=2.0,
            undesirable_weight=0.5,
            use_cpu=True,
            bf16=False,
            report_to="none",
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=loaded.tokenizer,
    )


@pytest.mark.parametrize("ratings", [(1, -1), (1,), (-1,)])
@pytest.mark.parametrize("seed", SEEDS)
def test_loss_rewards_and_gradient_equal_those_of_trl(load, adapter, examples, rows, trl, ratings, seed):
    loaded = load(adapter, lora={"dropout": 0.0})
    objective = prepared(loaded, rows)
    chosen = [index for index in range(40) if rows.ratings[index] in ratings][:8]
    batch = batch_of(rows, *chosen)
    other = objective.mismatched(batch)
    theirs = DataCollatorForUnpairedPreference(pad_token_id=0)(
        [
            {
                "prompt_ids": examples[index]["input_ids"][: examples[index]["prompt_length"]],
                "completion_ids": examples[index]["input_ids"][examples[index]["prompt_length"] :],
                "KL_completion_ids": other["labels"][place][other["labels"][place] != IGNORED].tolist(),
                "label": bool(rows.ratings[index] == 1),
            }
            for place, index in enumerate(chosen)
        ]
    )
    move(loaded, seed=seed)
    with torch.no_grad():
        for name, weight in lora_weights(trl.model).items():
            weight.copy_(lora_weights(loaded.model)[name])

    expected = trl.compute_loss(trl.model.eval(), theirs)
    found = loss_of(objective, loaded.model, batch)
    assert found.item() == pytest.approx(expected.item(), abs=ROUNDING)
    metrics = trl._metrics["eval"]
    assert (objective.kl > 0) == (seed == KL)
    assert objective.kl.item() == pytest.approx(metrics["kl"][0], abs=ROUNDING)
    rewards = BETA * (answer_log_probs(loaded.model, batch) - objective.reference[chosen])
    for name, rating in (("chosen", 1), ("rejected", -1)):
        if rating in ratings:
            mean = rewards[batch["rating"] == rating].mean().item()
            assert mean == pytest.approx(metrics[f"rewards/{name}"][0], abs=ROUNDING)

    expected.backward()
    found.backward()
    for name, weight in lora_weights(loaded.model).items():
        torch.testing.assert_close(weight.grad, lora_weights(trl.model)[name].grad, atol=1e-6, rtol=1e-4)


def test_the_gradient_equals_the_formula():
    change = torch.tensor([0.0, 3.0, -2.0, 40.0], dtype=torch.float64, requires_grad=True)
    ratings, weights = torch.tensor([1, -1, 1, -1]), torch.tensor([2.0, 0.5, 2.0, 0.5])
    kl = torch.tensor(0.7, dtype=torch.float64)

    def losses(change: torch.Tensor) -> torch.Tensor:
        return kto_losses(change, kl, ratings=ratings, weights=weights, beta=0.1)

    assert torch.autograd.gradcheck(losses, (change,))
    losses(change).sum().backward()
    # −w r β σ(z)(1 − σ(z)): raises liked answers, lowers disliked ones, and vanishes when they have moved far enough.
    sigma = torch.sigmoid(0.1 * ratings * (change - kl)).detach()
    torch.testing.assert_close(change.grad, -weights * ratings * 0.1 * sigma * (1 - sigma))


def test_before_the_first_step_the_loss_is_half_of_each_weight(load, adapter, rows):
    """Δ = kl = 0 at the parent's weights, so that σ = ½, for any batching."""
    loaded = load(adapter)
    objective = prepared(loaded, rows)
    batch = batch_of(rows, 3, 9, 1)
    assert loss_of(objective, loaded.model, batch).item() == pytest.approx(batch["weight"].mean().item() / 2, abs=1e-5)
    assert objective.kl.item() == pytest.approx(0.0, abs=1e-4)


def test_micro_batches_add_up_to_the_whole_batch(load, adapter, rows):
    loaded = load(adapter)
    objective = prepared(loaded, rows)
    move(loaded, seed=KL)
    whole = loss_of(objective, loaded.model, batch_of(rows, *range(12)))
    assert objective.kl > 0
    parts = [batch_of(rows, 0), batch_of(rows, 1, 2, 3, 4), batch_of(rows, *range(5, 12))]
    assert loss_of(objective, loaded.model, *parts).item() == pytest.approx(whole.item(), abs=1e-6)


def test_a_training_on_one_row_has_no_kl(load, adapter, rows):
    loaded = load(adapter)
    objective = prepared(loaded, rows, used=range(7, 8))
    move(loaded, seed=KL)
    batch = batch_of(rows, 7)
    change = answer_log_probs(loaded.model, batch) - objective.reference[[7]]
    expected = batch["weight"] * torch.sigmoid(-BETA * batch["rating"] * change)
    assert loss_of(objective, loaded.model, batch).item() == pytest.approx(expected.item(), abs=1e-6)
    assert objective.kl == 0


def test_every_answer_is_paired_with_one_other_prompt(load, rows):
    partner = prepared(load(), rows, used=range(3, 30)).partner
    assert sorted(partner) == sorted(partner.values()) == list(range(3, 30))
    assert all(row != other for row, other in partner.items())
    assert prepared(load(), rows, used=range(3, 30)).partner == partner


def test_a_pair_that_is_too_long_is_cut_at_the_start_of_its_prompt(rows, examples):
    asked, answered = rows[0], rows[1]
    prompt = examples[0]["input_ids"][: examples[0]["prompt_length"]]
    answer = examples[1]["input_ids"][examples[1]["prompt_length"] :]
    pair = mismatch(asked, answered, room=1000)
    assert pair.input_ids.tolist() == prompt + answer
    assert pair.labels.tolist() == [IGNORED] * len(prompt) + answer
    room = len(prompt) + len(answer) - 3
    assert mismatch(asked, answered, room=room).input_ids.tolist() == prompt[3:] + answer
