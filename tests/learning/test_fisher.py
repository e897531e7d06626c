import itertools

import datasets
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from learning_engine.config import sections
from learning_engine.errors import DatasetError, ModelError
from learning_engine.learning import fisher
from learning_engine.learning.information import FisherInformation
from learning_engine.learning.model import Loaded, lora_weights
from learning_engine.records.contracts import LoraShape


def compute(loaded, examples, *, seed=0, **settings) -> FisherInformation:
    return fisher.compute(
        loaded, examples, sections.Fisher(**{"structure": "diagonal", **settings}), seed=seed, guards="v1.0"
    )


def token_losses(model, example) -> torch.Tensor:
    """ℓ_t of one unpadded sequence, from the model's full logits."""
    labels = torch.tensor(example["labels"])[1:]
    logits = model(input_ids=torch.tensor([example["input_ids"]])).logits[0, :-1]
    return functional.cross_entropy(logits, labels, reduction="none", ignore_index=-100)


def gradients(model, loss) -> dict[str, torch.Tensor]:
    weights = lora_weights(model)
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


def one_by_one(model, examples) -> dict[str, torch.Tensor]:
    """The definition: one backward pass per sequence, squared, divided by the number of supervised tokens."""
    total = {name: torch.zeros_like(weight) for name, weight in lora_weights(model).items()}
    tokens = 0
    for example in examples:
        for name, gradient in gradients(model, token_losses(model, example).sum()).items():
            total[name] += gradient.square()
        tokens += sum(label != -100 for label in example["labels"][1:])
    return {name: tensor / tokens for name, tensor in total.items()}


def assert_close(found, expected, *, rel: float) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=rel, atol=rel * tensor.abs().max().item())


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_one_backward_pass_per_batch_equals_one_per_sequence(load, adapter, examples, dtype, rel):
    loaded = load(adapter)
    loaded.model.to(dtype)
    assert len({len(ids) for ids in examples["input_ids"]}) > 5, "the rows must be ragged"
    found = compute(loaded, examples, labels="observed", batch_size=16)
    assert (found.n_sequences, found.kind, found.units) == (40, "diagonal", "per_supervised_token")
    assert found.n_tokens == sum(sum(label != -100 for label in labels) for labels in examples["labels"])
    assert_close(found.tensors, one_by_one(loaded.model, examples), rel=rel)


def test_the_square_of_a_batch_gradient_is_not_fisher_information(load, adapter, examples):
    loaded = load(adapter)
    exact = compute(loaded, examples, labels="observed").tensors
    loss = torch.stack([token_losses(loaded.model, example).sum() for example in examples]).mean()
    batched = torch.cat([gradient.square().flatten() for gradient in gradients(loaded.model, loss).values()])
    ours = torch.cat([exact[name].flatten() for name in exact])
    assert functional.cosine_similarity(batched, ours, dim=0) < 0.9


@pytest.mark.parametrize("draws", [1, 3])
def test_batching_does_not_change_the_sampled_labels(load, adapter, examples, draws):
    loaded = load(adapter)
    loaded.model.double()
    alone = compute(loaded, examples, batch_size=1, draws=draws)
    together = compute(loaded, examples, batch_size=16, draws=draws)
    assert_close(together.tensors, alone.tensors, rel=1e-10)
    assert alone.n_tokens == together.n_tokens


def test_the_result_depends_on_the_seed(load, adapter, examples):
    loaded = load(adapter)
    first, again, other = (compute(loaded, examples, seed=seed).tensors for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


@pytest.fixture
def small() -> Loaded:
    """A vocabulary of six tokens, so that every continuation can be enumerated; B ≠ 0; float64."""
    config = LlamaConfig(
        vocab_size=6,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        model = get_peft_model(LlamaForCausalLM(config), lora).double().eval()
    return Loaded(model, None, torch.device("cpu"), "r", "b", LoraShape(2, 8.0, ("q_proj", "v_proj")))


def rows(input_ids: list[int], all_labels: list[list[int]]) -> datasets.Dataset:
    return datasets.Dataset.from_list(
        [{"input_ids": input_ids, "labels": labels, "weight": 1.0, "rating": 1} for labels in all_labels]
    )


def test_smoothed_labels_give_the_fisher_information_of_the_smoothed_prediction(small):
    """Compared with J_tᵀ (diag q − q qᵀ) J_t with q = (1 − ε) p + ε / V, summed over the tokens t."""
    context, smoothing = [0, 1, 2, 3], 0.8
    exact = {name: torch.zeros_like(weight) for name, weight in lora_weights(small.model).items()}
    for position in (1, 2):
        logits = [small.model(input_ids=torch.tensor([context])).logits[0, position] for _ in range(6)]
        smoothed = (1 - smoothing) * logits[0].detach().softmax(-1) + smoothing / 6
        of_each = [gradients(small.model, scores[label]) for label, scores in enumerate(logits)]
        for name in exact:
            jacobian = torch.stack([gradient[name] for gradient in of_each])
            mean = torch.einsum("v,v...->...", smoothed, jacobian)
            exact[name] += (torch.einsum("v,v...->...", smoothed, jacobian.square()) - mean.square()) / 2
    asked = rows(context, [[-100, -100, 0, 0]] * 100)
    sampled, plain = (compute(small, asked, draws=64, batch_size=100, smoothing=value) for value in (smoothing, 0))
    assert (sampled.smoothing, plain.smoothing) == (smoothing, 0)
    for name, tensor in exact.items():
        assert (sampled.tensors[name] - tensor).norm() < 0.06 * tensor.norm()
        assert (plain.tensors[name] - tensor).norm() > 0.12 * tensor.norm()


def test_the_expectation_over_labels_is_the_exact_fisher(small):
    """All labels, weighted by probability, must equal Σ_t Σ_y p(y) (∂ log p(y))²: cross terms vanish."""
    context = [0, 1, 2, 3]
    probabilities = small.model(input_ids=torch.tensor([context])).logits[0].softmax(-1).detach()
    expected = {name: torch.zeros_like(weight) for name, weight in lora_weights(small.model).items()}
    exact = {name: torch.zeros_like(weight) for name, weight in lora_weights(small.model).items()}
    for labels in itertools.product(range(6), repeat=2):
        probability = probabilities[1, labels[0]] * probabilities[2, labels[1]]
        information = compute(small, rows(context, [[-100, -100, *labels]]), labels="observed")
        for name, tensor in information.tensors.items():
            expected[name] += probability * tensor
    for position, label in itertools.product((1, 2), range(6)):
        logits = small.model(input_ids=torch.tensor([context])).logits[0, position]
        for name, gradient in gradients(small.model, logits.log_softmax(-1)[label]).items():
            exact[name] += probabilities[position, label] * gradient.square() / 2
    assert_close(expected, exact, rel=1e-10)

    sampled = compute(small, rows(context, [[-100, -100, 0, 0]] * 100), draws=64, batch_size=100, smoothing=0)
    for name, tensor in exact.items():
        assert (sampled.tensors[name] - tensor).norm() < 0.06 * tensor.norm()


def test_a_new_adapter_has_fisher_information_only_in_b(load, examples):
    diagonal = compute(load(), examples).tensors
    assert all((tensor == 0).all() == (".lora_A." in name) for name, tensor in diagonal.items())


def test_the_model_is_left_unchanged(load, adapter, examples):
    loaded, frozen = load(adapter), load(adapter, trainable=False)
    loaded.model.train()
    first, second = compute(loaded, examples), compute(frozen, examples)
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    assert loaded.model.training
    assert not frozen.model.training
    assert all(weight.requires_grad for weight in lora_weights(loaded.model).values())
    assert not any(weight.requires_grad for weight in frozen.model.parameters())
    assert all(weight.grad is None for weight in loaded.model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in loaded.model.modules())


def test_a_layer_that_runs_twice_is_rejected(load, adapter, examples):
    loaded = load(adapter)
    first, second = loaded.model.base_model.model.model.layers
    second.self_attn.q_proj = first.self_attn.q_proj
    with pytest.raises(ModelError, match=r"layers\.0\.self_attn\.q_proj\.lora_A.*once"):
        compute(loaded, examples)


def test_max_sequences_limits_the_sequences(load, adapter, examples):
    loaded = load(adapter)
    some = compute(loaded, examples, max_sequences=7)
    assert some.n_sequences == 7
    assert some.n_tokens < compute(loaded, examples).n_tokens
    assert compute(loaded, examples, max_sequences=7, seed=1).n_tokens != some.n_tokens


@pytest.mark.parametrize("settings", [{"dtype": "bfloat16"}, {"quantization": "4bit"}, {"quantization": "8bit"}])
@pytest.mark.parametrize("structure", ["diagonal", "kronecker"])
def test_bases_of_lower_precision_give_similar_fisher_information(load, adapter, examples, settings, structure):
    exact = compute(load(adapter), examples, labels="observed", structure=structure).tensors
    rough = compute(load(adapter, model=settings), examples, labels="observed", structure=structure).tensors
    for name, tensor in exact.items():
        assert rough[name].dtype == torch.float32
        assert functional.cosine_similarity(rough[name].flatten(), tensor.flatten(), dim=0) > 0.9


@pytest.mark.parametrize("quantization", ["4bit", "8bit"])
def test_a_quantised_base_has_gradients_after_a_pass_without_gradients(load, adapter, examples, quantization):
    """Training with kto runs the parent first, without gradients."""
    ids, found = torch.tensor([examples[0]["input_ids"]]), []
    for settings in ({}, {"quantization": quantization, "attention": "eager"}):
        loaded = load(adapter, model=settings)
        with torch.no_grad():
            loaded.model(input_ids=ids)
        of_each = gradients(loaded.model, loaded.model(input_ids=ids, labels=ids).loss)
        found.append(torch.cat([gradient.flatten() for gradient in of_each.values()]))
    assert functional.cosine_similarity(*found, dim=0) > 0.9


def test_rows_without_supervised_tokens_are_refused(load, examples):
    silent = examples.map(lambda row: {"labels": [-100] * len(row["labels"])}, load_from_cache_file=False)
    for nothing in (silent, examples.select([])):
        with pytest.raises(DatasetError, match="found none"):
            compute(load(), nothing)
