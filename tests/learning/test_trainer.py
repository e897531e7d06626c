import dataclasses
import math
from pathlib import Path

import pytest
import torch

from learning_engine.config import sections
from learning_engine.errors import ModelError, TrainingError
from learning_engine.learning import ewc, fisher, trainer
from learning_engine.learning.batches import IGNORED, LengthGroupedSampler, Rows, collate
from learning_engine.learning.model import lora_weights, save_adapter
from learning_engine.learning.objectives import WeightedSft
from learning_engine.records.contracts import TrainingProgress

NOTHING = ewc.Penalty(None, 0.0)


def train(loaded, examples, workdir: Path, *, penalty=NOTHING, resume=None, on_checkpoint=None, logs=None, **settings):
    plain = {"objective": "weighted_sft", "batch_size": 8, "epochs": 2, "learning_rate": 3e-3, "log_steps": 1}
    return trainer.train(
        loaded,
        examples,
        penalty,
        sections.Training(**{**plain, **settings}),
        workdir=workdir,
        resume=resume,
        on_checkpoint=on_checkpoint,
        on_log=[].append if logs is None else logs.append,
    )


def ewc_penalty(loaded, examples, ewc_lambda: float) -> ewc.Penalty:
    importance = fisher.compute(loaded, examples, sections.Fisher(structure="diagonal", draws=1), seed=0, guards="v1.0")
    return ewc.anchored_penalty(loaded.model, importance, ewc_lambda)


def snapshot(loaded) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in lora_weights(loaded.model).items()}


def test_the_losses_of_a_tiny_model_are_reproduced(load, adapter, examples, tmp_path):
    loaded = load(adapter, lora={"dropout": 0.0})
    metrics = train(loaded, examples, tmp_path, penalty=ewc_penalty(loaded, examples, 100.0))
    assert metrics.steps == len(metrics.curve) == 10
    assert [step for step, _, _ in metrics.curve] == list(range(1, 11))
    task, penalty = ([point[column] for point in metrics.curve] for column in (1, 2))
    assert task == pytest.approx(TASK_LOSSES, abs=1e-5)
    assert penalty == pytest.approx(EWC_LOSSES, abs=1e-5)
    assert (metrics.task_loss, metrics.ewc_loss) == (task[-1], penalty[-1])


def test_training_equals_a_bare_adamw_loop_on_the_objective(load, adapter, examples, tmp_path):
    """The Trainer's curve equals that of a bare loop over the same batches: no loss is scaled, averaged or dropped."""
    metrics = train(load(adapter, lora={"dropout": 0.0}), examples, tmp_path, scheduler="constant")
    loaded = load(adapter, lora={"dropout": 0.0})
    loaded.model.train()
    weights = list(lora_weights(loaded.model).values())
    optimizer = torch.optim.AdamW(weights, lr=3e-3, weight_decay=0.0)
    rows, losses = Rows(examples), []
    sampler = LengthGroupedSampler(rows.lengths, batch_size=8, seed=17)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order = list(sampler)
        for start in range(0, 40, 8):
            batch = collate([rows[index] for index in order[start : start + 8]])
            loss = WeightedSft()(loaded.model, batch) / batch["supervised_weight"]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    assert [task for _, task, _ in metrics.curve] == pytest.approx(losses, abs=1e-5)


def test_the_same_seed_gives_the_same_curve(load, examples, tmp_path):
    runs = []
    for run, seed in enumerate((17, 17, 18)):
        torch.rand(run + 1)  # other code may draw random numbers before
        loaded = load()
        runs.append((train(loaded, examples, tmp_path / str(run), seed=seed).curve, snapshot(loaded)))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(runs[0][1][name], runs[1][1][name]) for name in runs[0][1])
    assert runs[0][0] != runs[2][0]


def test_accumulated_micro_batches_equal_one_batch(load, adapter, examples, tmp_path):
    curves = []
    for batch_size, accumulation in ((8, 1), (2, 4)):
        # Sorted rows of one epoch in the same order, so that four micro-batches of two are one batch of eight.
        loaded = load(adapter, lora={"dropout": 0.0})
        one_batch = examples.select(range(8))
        metrics = train(
            loaded,
            one_batch,
            tmp_path / str(batch_size),
            penalty=ewc_penalty(loaded, examples, 100.0),
            batch_size=batch_size,
            gradient_accumulation=accumulation,
            epochs=4,
        )
        assert metrics.steps == 4
        curves.append(metrics.curve)
    for whole, parts in zip(*curves, strict=True):
        assert parts == pytest.approx(whole, abs=1e-5)


def test_a_stronger_penalty_moves_the_weights_less(load, adapter, examples, tmp_path):
    moved = {}
    for ewc_lambda in (0.0, 1e3, 1e6):
        loaded = load(adapter)
        before = snapshot(loaded)
        penalty = ewc_penalty(loaded, examples, ewc_lambda)
        metrics = train(loaded, examples, tmp_path / str(ewc_lambda), penalty=penalty, epochs=6)
        diagonal = sections.Fisher(structure="diagonal")
        importance = fisher.compute(load(adapter), examples, diagonal, seed=0, guards="v1.0").tensors
        after = snapshot(loaded)
        moved[ewc_lambda] = sum((importance[name] * (after[name] - before[name]) ** 2).sum().item() for name in before)
        assert (metrics.ewc_loss > 0) == (ewc_lambda > 0)
    assert moved[0.0] > 5 * moved[1e3] > 5 * moved[1e6]


@pytest.mark.parametrize(("epochs", "steps"), [(0.5, 3), (1, 5), (1.5, 8)])
def test_epochs_may_be_fractions(load, examples, tmp_path, epochs, steps):
    logs = []
    metrics = train(load(), examples, tmp_path, epochs=epochs, log_steps=2, logs=logs)
    assert metrics.steps == steps
    assert [event["step"] for event in logs] == [*range(2, steps, 2), steps]


def test_figures_and_counts_are_logged(load, examples, tmp_path):
    logs = []
    metrics = train(load(), examples, tmp_path, epochs=3, log_steps=5, logs=logs)
    assert [set(event) for event in logs] == [
        {field.name for field in dataclasses.fields(TrainingProgress)} - {"curve", "updated_at"}
    ] * 3
    assert [(event["step"], event["of"]) for event in logs] == [(5, 15), (10, 15), (15, 15)]
    assert logs[-1]["eta_seconds"] == 0
    assert 0 < logs[-1]["learning_rate"] < logs[0]["learning_rate"] <= 3e-3
    assert metrics.tokens == 3 * sum(len(ids) for ids in examples["input_ids"])
    assert metrics.supervised_tokens == 3 * sum(sum(t != IGNORED for t in labels) for labels in examples["labels"])
    assert metrics.tokens_per_second == pytest.approx(metrics.tokens / metrics.seconds, rel=0.05)
    assert (metrics.examples, metrics.device, metrics.precision, metrics.gpu_utilisation) == (40, "cpu", "fp32", None)
    assert metrics.peak_memory_bytes > 50 * 1024**2


def test_a_long_curve_is_thinned():
    from learning_engine.learning.training_log import thin

    curve = [(step, float(step), 2.0 * step) for step in range(1, 1002)]
    short = thin(curve)
    assert len(short) == 167
    assert short[0] == (6, 3.5, 7.0)
    assert short[-1] == (1001, 999.0, 1998.0)
    assert thin(curve[:200]) == curve[:200]


@pytest.mark.parametrize("settings", [{"gradient_checkpointing": True}, {"precision": "bf16"}])
def test_checkpointing_and_bf16_do_not_change_the_losses(load, adapter, examples, tmp_path, settings):
    plain = train(load(adapter, lora={"dropout": 0.0}), examples, tmp_path / "plain")
    loaded = load(adapter, lora={"dropout": 0.0})
    other = train(loaded, examples, tmp_path / "other", **settings)
    rel = 0.02 if settings.get("precision") == "bf16" else 1e-5
    assert [task for _, task, _ in other.curve] == pytest.approx([task for _, task, _ in plain.curve], rel=rel)
    assert other.precision == settings.get("precision", "fp32")
    # Neither setting leaves a trace on the model.
    assert not loaded.model.training
    save_adapter(loaded, tmp_path / "saved")
    ids = torch.tensor([examples[0]["input_ids"]])
    assert torch.equal(loaded.model(input_ids=ids).logits, load(tmp_path / "saved").model(input_ids=ids).logits)


def test_quantised_bases_train(load, adapter, examples, tmp_path):
    loaded = load(adapter, model={"quantization": "4bit"})
    metrics = train(loaded, examples, tmp_path, epochs=4)
    assert metrics.curve[-1][1] < metrics.curve[0][1] - 1


def test_a_non_finite_loss_stops_before_the_step(load, adapter, examples, tmp_path):
    loaded, weights = load(adapter), {}

    class Broken(torch.nn.Module):
        def forward(self, now):
            weights.update(snapshot(loaded))
            calls.append(1)
            value = math.nan if len(calls) == 4 else 0.0
            return sum(weight.sum() for weight in now.values()) * value

    calls: list[int] = []
    with pytest.raises(TrainingError, match=r"at step 4.*weights are those of step 3"):
        train(loaded, examples, tmp_path, penalty=ewc.Penalty(Broken(), 1.0))
    assert all(torch.equal(weight, weights[name]) for name, weight in snapshot(loaded).items())


class InfiniteGradient(torch.nn.Module):
    """A penalty of zero with a gradient that is not finite."""

    def forward(self, now):
        return sum((weight - weight.detach()).abs().sqrt().sum() for weight in now.values())


class InfinitePenalty(torch.nn.Module):
    """An infinite penalty."""

    def forward(self, now):
        return sum(weight.sum() for weight in now.values()) * 0 + math.inf


def test_the_non_finite_figure_is_named(load, adapter, examples, tmp_path):
    infinitely_weighted = examples.map(lambda row: {"weight": math.inf}, load_from_cache_file=False)
    causes = {
        "gradient norm nan": (examples, ewc.Penalty(InfiniteGradient(), 1.0)),
        "EWC loss inf": (examples, ewc.Penalty(InfinitePenalty(), 1.0)),
        "task loss nan": (infinitely_weighted, NOTHING),
    }
    for named, (rows, penalty) in causes.items():
        with pytest.raises(TrainingError, match=f"at step 1, found [^:]*{named}") as caught:
            train(load(adapter), rows, tmp_path / named, penalty=penalty)
        found = str(caught.value).partition("found ")[2].partition(":")[0]
        others = {"gradient norm", "EWC loss", "task loss"} - {named.rpartition(" ")[0]}
        if "gradient" not in named:
            others -= {"gradient norm"}  # not finite either, because the loss is not
        assert not [other for other in others if other in found], found


def test_rows_without_weight_are_left_out(load, examples, tmp_path):
    weightless = examples.map(lambda row: {"weight": max(0.0, row["rating"])}, load_from_cache_file=False)
    metrics = train(load(), weightless, tmp_path)
    assert metrics.examples == sum(rating > 0 for rating in examples["rating"]) < 40
    for nothing in (examples.select([]), weightless.filter(lambda row: row["rating"] < 0, load_from_cache_file=False)):
        with pytest.raises(TrainingError, match="found none"):
            train(load(), nothing, tmp_path)


def test_only_the_adapter_may_be_trainable(load, examples, tmp_path):
    loaded = load()
    loaded.model.get_output_embeddings().weight.requires_grad_(True)
    with pytest.raises(ModelError, match="lm_head"):
        train(loaded, examples, tmp_path)
    with pytest.raises(ModelError, match="found 0 trainable"):
        train(load(trainable=False), examples, tmp_path)


def test_half_precision_needs_a_gpu(load, examples, tmp_path):
    with pytest.raises(TrainingError, match="fp16"):
        train(load(), examples, tmp_path, precision="fp16")


TASK_LOSSES = [5.830327, 6.029543, 5.515113, 5.318666, 5.112078, 4.911687, 5.095127, 4.864316, 4.848821, 4.829401]
EWC_LOSSES = [0.0, 0.0, 0.126718, 0.352317, 0.524316, 0.595891, 0.614057, 0.597213, 0.576725, 0.563213]
