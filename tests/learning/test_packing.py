import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    LlamaConfig,
    MistralConfig,
    NemotronConfig,
    Qwen3Config,
)

from learning_engine.config import sections
from learning_engine.errors import ModelError
from learning_engine.learning import ewc, fisher, packing, trainer
from learning_engine.learning.batches import Rows, collate
from learning_engine.learning.forward import supervised_logits
from learning_engine.learning.model import lora_weights


@pytest.fixture
def twins(load, adapter, monkeypatch):
    """The same model twice: the first always runs packed, without sharing any beginning, the second padded."""
    monkeypatch.setattr(packing, "MAX_FILL_TO_PACK", 2.0)
    monkeypatch.setattr(packing, "shared_prefix", lambda *_: 0)
    packed, padded = (load(adapter, lora={"dropout": 0.0}) for _ in range(2))
    padded.model.base_model.model.set_attn_implementation("sdpa")
    assert packing.enabled(packed.model)
    assert not packing.enabled(padded.model)
    return packed, padded


def loss_and_gradients(loaded, batch):
    logits, tokens, owner = supervised_logits(loaded.model, batch["input_ids"], batch["labels"])
    losses = functional.cross_entropy(logits, tokens, reduction="none")
    weights = list(lora_weights(loaded.model).values())
    return losses.detach(), owner, torch.cat([g.flatten() for g in torch.autograd.grad(losses.sum(), weights)])


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_rows_have_the_losses_and_gradients_of_padded_ones(twins, examples, dtype, close, checkpointing):
    found = []
    rows = Rows(examples)
    for loaded in twins:
        loaded.model.to(dtype)
        if checkpointing:
            loaded.model.train()
            loaded.model.gradient_checkpointing_enable({"use_reentrant": False})
        found.append(loss_and_gradients(loaded, collate([rows[index] for index in range(12)])))
    (ours, owner, gradient), (theirs, their_owner, their_gradient) = found
    assert len({len(ids) for ids in examples["input_ids"][:12]}) > 5, "the rows must be ragged"
    torch.testing.assert_close(ours, theirs, rtol=close, atol=close)
    assert torch.equal(owner, their_owner)
    assert (gradient - their_gradient).norm() < close * their_gradient.norm()


def test_no_row_attends_to_another(twins, examples):
    packed, _ = twins
    rows = Rows(examples)
    alone = torch.cat([loss_and_gradients(packed, collate([rows[index]]))[0] for index in (3, 4, 5)])
    together, _, _ = loss_and_gradients(packed, collate([rows[index] for index in (3, 4, 5)]))
    torch.testing.assert_close(together, alone)


def test_tokens_that_no_label_depends_on_are_not_computed(twins, examples):
    """Neither padding nor tokens after the last supervised one reach a layer."""
    packed, _ = twins
    rows, widths = Rows(examples), []
    batch = collate([rows[index] for index in range(8)])
    batch["labels"][2] = -100
    layer = packed.model.base_model.model.model.layers[0].mlp
    handle = layer.register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0].shape[:2]))
    supervised_logits(packed.model, batch["input_ids"], batch["labels"])
    handle.remove()
    last = [max(place for place, label in enumerate(labels) if label != -100) for labels in examples["labels"][:8]]
    assert widths == [(1, sum(last) - last[2])]


def test_a_batch_with_one_needed_token_gives_the_same_logits(twins):
    ids, labels = torch.tensor([[5, 6], [7, 8]]), torch.tensor([[-100, 6], [-100, -100]])
    ours, theirs = (supervised_logits(loaded.model, ids, labels)[0] for loaded in twins)
    torch.testing.assert_close(ours, theirs)


def test_a_batch_without_labels_gives_no_logits(twins, examples):
    rows = Rows(examples)
    batch = collate([rows[index] for index in range(3)])
    logits, tokens, owner = supervised_logits(
        twins[0].model, batch["input_ids"], torch.full_like(batch["labels"], -100)
    )
    assert logits.shape == (0, twins[0].model.config.vocab_size)
    assert len(tokens) == len(owner) == 0


@pytest.mark.parametrize("structure", ["diagonal", "kronecker"])
def test_packed_rows_give_the_same_fisher_information(twins, examples, structure):
    settings = sections.Fisher(structure=structure, batch_size=8)
    for loaded in twins:
        loaded.model.double()
    ours, theirs = (fisher.compute(loaded, examples, settings, seed=0, guards="v1.0").tensors for loaded in twins)
    for name, tensor in theirs.items():
        assert (ours[name] - tensor).norm() < 1e-10 * tensor.norm(), name


def task_losses(loaded, rows, settings, workdir):
    """The task loss of each step of a training without a penalty."""
    metrics = trainer.train(
        loaded,
        rows,
        ewc.Penalty(None, 0.0),
        settings,
        workdir=workdir,
        resume=None,
        on_checkpoint=None,
        on_log=[].append,
    )
    return [task for _, task, _ in metrics.curve]


@pytest.mark.parametrize("objective", ["weighted_sft", "kto"])
def test_training_on_packed_rows_gives_the_same_losses(twins, examples, tmp_path, objective):
    settings = sections.Training(objective=objective, batch_size=8, epochs=2, learning_rate=3e-3, log_steps=1)
    ours, theirs = (task_losses(loaded, examples, settings, tmp_path / str(id(loaded))) for loaded in twins)
    assert ours == pytest.approx(theirs, abs=1e-5)


SHAPE = {
    "vocab_size": 8,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
TEXT_AND_IMAGES = {
    "text_config": {**SHAPE, "head_dim": 8, "sliding_window": 4, "layer_types": ["sliding_attention"]},
    "vision_config": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
}


@pytest.mark.parametrize(
    ("config", "packs"),
    [
        (MistralConfig(**SHAPE, sliding_window=None), True),
        (MistralConfig(**SHAPE, sliding_window=4), False),
        (LlamaConfig(**SHAPE, attn_implementation="eager"), False),
        (Qwen3Config(**SHAPE, head_dim=8, use_sliding_window=False, layer_types=["full_attention"]), True),
        (Qwen3Config(**SHAPE, head_dim=8, use_sliding_window=False, layer_types=["sliding_attention"]), False),
        (Gemma3Config(**TEXT_AND_IMAGES), False),
        # Its layers do not pass extra arguments on to attention.
        (NemotronConfig(**SHAPE), False),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, bool) else "",
)
def test_packing_is_enabled_only_for_full_sdpa_attention(config, packs):
    model = AutoModelForCausalLM.from_config(config)
    before = model.config._attn_implementation
    packing.enable(model)
    assert packing.enabled(model) == packs
    assert packs or model.config._attn_implementation == before


def test_a_model_that_drops_the_row_lengths_raises_an_error():
    nemotron = AutoModelForCausalLM.from_config(NemotronConfig(**SHAPE))
    nemotron.set_attn_implementation(packing.BY_ROW)
    rows = packing.packed_inputs(torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ModelError, match=r"NemotronAttention .*model\.attention"):
        nemotron(**rows)


def test_an_unpacked_batch_is_masked_as_usual(twins, examples):
    """Left padding, as in generation, uses the same attention function."""
    _, padded = twins
    ids = torch.tensor([[0, 0, 5, 6, 7], [1, 2, 3, 4, 5]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    ours, theirs = (loaded.model(input_ids=ids, attention_mask=mask).logits for loaded in twins)
    torch.testing.assert_close(ours[mask.bool()], theirs[mask.bool()])
    alone = padded.model(input_ids=ids[:1, 2:]).logits
    torch.testing.assert_close(ours[:1, 2:], alone, rtol=1e-4, atol=1e-4)
