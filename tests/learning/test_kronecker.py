"""Kronecker factors compared with their definition, and their penalty with the dense form."""

import itertools
from dataclasses import replace

import pytest
import torch

from learning_engine.config import sections
from learning_engine.errors import FisherMismatch, ModelError
from learning_engine.learning import ewc, fisher
from learning_engine.learning.information import FisherInformation
from learning_engine.learning.model import lora_weights
from tests.learning.test_fisher import assert_close, rows, small, token_losses  # noqa: F401 (small is a fixture)


def compute(loaded, examples, *, seed=0, **settings) -> FisherInformation:
    settings = sections.Fisher(**{"structure": "kronecker", **settings})
    return fisher.compute(loaded, examples, settings, seed=seed, guards="v1.0")


def layers_of(model) -> dict:
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def recorded(model, example) -> tuple[dict, torch.Tensor]:
    """Each adapted layer's input and output for one sequence, and the sequence's loss."""
    seen = {}

    def keep(name):
        def hook(_, inputs, output):
            seen[name] = inputs[0], output

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in layers_of(model).items()]
    loss = token_losses(model, example).sum()
    for handle in handles:
        handle.remove()
    return seen, loss


def one_by_one(model, examples) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """The definition, sequence by sequence: the partial traces of F from full gradients, and F's exact trace."""
    gradients: dict[str, list] = {}
    tokens = 0
    for example in examples:
        seen, loss = recorded(model, example)
        output_gradients = torch.autograd.grad(loss, [output for _, output in seen.values()])
        for (name, (inputs, _)), delta in zip(seen.items(), output_gradients, strict=True):
            gradients.setdefault(name, []).append(delta[0].T @ inputs[0].detach())
        tokens += sum(label != -100 for label in example["labels"][1:])
    found, trace = {}, {}
    for name, each in gradients.items():
        trace[name] = sum(gradient.square().sum() for gradient in each).item() / tokens
        found[f"{name}.G"] = sum(gradient @ gradient.T for gradient in each) / tokens
        found[f"{name}.C"] = sum(gradient.T @ gradient for gradient in each) / (trace[name] * tokens)
    return found, trace


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_one_backward_pass_per_batch_gives_the_factors_by_definition(load, adapter, examples, dtype, rel):
    loaded = load(adapter)
    loaded.model.to(dtype)
    found = compute(loaded, examples, labels="observed", batch_size=16)
    assert (found.kind, found.units, found.n_sequences) == ("kronecker", "per_supervised_token", 40)
    expected, trace = one_by_one(loaded.model, examples)
    assert_close(found.tensors, expected, rel=rel)
    for name, exact in trace.items():
        g, c = (found.tensors[f"{name}.{factor}"].trace().item() for factor in "GC")
        assert g * c == pytest.approx(exact, rel=10 * rel)


def test_batching_and_padding_change_nothing(load, adapter, examples):
    loaded = load(adapter)
    loaded.model.double()
    alone, together = (compute(loaded, examples, batch_size=size, draws=2) for size in (1, 16))
    assert_close(together.tensors, alone.tensors, rel=1e-10)


def test_gradient_checkpointing_changes_nothing(load, adapter, examples):
    plain, saving = load(adapter), load(adapter)
    saving.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    saving.model.train()
    for structure in ("diagonal", "kronecker"):
        expected = compute(plain, examples, structure=structure).tensors
        assert_close(compute(saving, examples, structure=structure).tensors, expected, rel=1e-6)


def test_a_layer_that_runs_twice_is_rejected(load, adapter, examples):
    loaded = load(adapter)
    first, second = loaded.model.base_model.model.model.layers
    second.self_attn.q_proj = first.self_attn.q_proj
    with pytest.raises(ModelError, match=r"layers\.0\.self_attn\.q_proj.*once"):
        compute(loaded, examples)


def test_at_one_position_the_product_is_the_exact_fisher_information(small):  # noqa: F811
    """One position before the only label: F = Σ_y p(y) (δ_y ⊗ x)(δ_y ⊗ x)ᵀ = G ⊗ C, by enumeration of the labels."""
    context = [0, 3]
    probabilities = small.model(input_ids=torch.tensor([context])).logits[0, 0].softmax(-1).detach()
    expected: dict[str, torch.Tensor] = {}
    exact: dict[str, torch.Tensor] = {}
    for label in range(6):
        found = compute(small, rows(context, [[-100, label]]), labels="observed").tensors
        for name in layers_of(small.model):
            g, c = found[f"{name}.G"], found[f"{name}.C"]
            expected[name] = expected.get(name, 0) + probabilities[label] * torch.kron(g, c)
        for name, module in layers_of(small.model).items():
            weight = module.base_layer.weight.requires_grad_(True)
            logits = small.model(input_ids=torch.tensor([context])).logits[0, 0]
            (gradient,) = torch.autograd.grad(logits.log_softmax(-1)[label], weight)
            weight.requires_grad_(False)
            score = gradient.flatten()
            exact[name] = exact.get(name, 0) + probabilities[label] * torch.outer(score, score)
    assert_close(expected, exact, rel=1e-10)


def quadratic(tensors, weights, anchor, scaling) -> torch.Tensor:
    """½ Σ vec(D)ᵀ (G ⊗ C) vec(D) with dense D and dense Kronecker products."""
    total = torch.zeros((), dtype=torch.float64)
    for layer in {name.rpartition(".")[0] for name in tensors}:
        now, before = ((w[f"{layer}.lora_B.weight"] @ w[f"{layer}.lora_A.weight"]) for w in (weights, anchor))
        change = (scaling * (now - before)).flatten()
        total = total + 0.5 * change @ torch.kron(tensors[f"{layer}.G"], tensors[f"{layer}.C"]) @ change
    return total


def moved(loaded, scale=0.1) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in lora_weights(loaded.model).values():
            weight += scale * torch.randn(weight.shape, generator=generator)


@pytest.mark.parametrize("weeks", [1, 3])
def test_value_and_gradient_of_the_penalty_equal_the_dense_form(small, weeks):  # noqa: F811
    found = compute(small, rows([0, 1, 2, 3, 4], [[-100, 1, 2, 3, 4]] * 4))
    for week in range(1, weeks):
        other = compute(small, rows([week, 1, 2, 3, 4], [[-100, 1, 2, 3, 4]] * 4))
        found = fisher.accumulate(other, found, sections.Fisher(decay=0.5))
    penalty = ewc.anchored_penalty(small.model, found, 300.0)
    anchor = {name: weight.detach().clone() for name, weight in lora_weights(small.model).items()}
    assert penalty.quadratic(small.model).item() == 0.0
    moved(small)
    weights = lora_weights(small.model)
    plain = quadratic(found.tensors, weights, anchor, small.lora.alpha / small.lora.rank)
    ours = penalty.quadratic(small.model)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-10)
    pairs = zip(*(torch.autograd.grad(each, list(weights.values())) for each in (ours, plain)), strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_a_change_of_basis_of_the_lora_factors_costs_nothing(load, adapter, examples):
    """(B, A) → (BR, R⁻¹A): the diagonal of the LoRA factors penalises it, the penalty on ΔW does not."""
    loaded = load(adapter)
    penalties = {
        structure: ewc.anchored_penalty(loaded.model, compute(loaded, examples, structure=structure), 300.0)
        for structure in ("diagonal", "kronecker")
    }
    generator = torch.Generator().manual_seed(0)
    weights = lora_weights(loaded.model)
    with torch.no_grad():
        for name in [name for name in weights if ".lora_A." in name]:
            turn = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
            weights[name].copy_(turn.T @ weights[name])
            other = weights[name.replace("lora_A", "lora_B")]
            other.copy_(other @ turn)
    costs = {structure: penalty.quadratic(loaded.model).item() for structure, penalty in penalties.items()}
    assert abs(costs["kronecker"]) < 1e-6 * costs["diagonal"]


def test_a_new_adapter_is_also_protected_in_lora_a(load, examples):
    """At B = 0 the diagonal of the LoRA factors is zero for A; but once B has moved, moving A changes ΔW and costs."""
    loaded = load()
    penalty = ewc.anchored_penalty(loaded.model, compute(loaded, examples), 300.0)
    weights = lora_weights(loaded.model)
    with torch.no_grad():
        for name, weight in weights.items():
            if ".lora_B." in name:
                weight += 0.01
    gradients = torch.autograd.grad(penalty.quadratic(loaded.model), list(weights.values()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def trace(information: FisherInformation, layer: str) -> float:
    g, c = (information.tensors[f"{layer}.{factor}"].trace() for factor in "GC")
    return (g * c).item()


def test_adding_weeks_preserves_the_trace(load, adapter, examples):
    loaded = load(adapter)
    old, new = compute(loaded, examples.select(range(20))), compute(loaded, examples.select(range(20, 40)))
    traces = {layer: trace(new, layer) + 0.5 * trace(old, layer) for layer in layers_of(loaded.model)}
    added = fisher.accumulate(new, old, sections.Fisher(decay=0.5))
    assert (added.accumulated, added.decay, added.n_tokens) == (("v1.0",), 0.5, new.n_tokens)
    for layer, expected in traces.items():
        assert trace(added, layer) == pytest.approx(expected, rel=1e-5)


def test_factors_of_another_model_are_rejected(load, adapter, examples):
    loaded = load(adapter)
    found = compute(loaded, examples)
    key = next(key for key in found.tensors if key.endswith(".G"))
    less = {name: tensor for name, tensor in found.tensors.items() if ".layers.1." not in name}
    for tensors in ({**found.tensors, key: torch.ones(7, 7)}, less):
        with pytest.raises(FisherMismatch, match="8 adapted weights"):
            ewc.anchored_penalty(loaded.model, replace(found, tensors=tensors), 1.0)


def test_sampled_labels_converge_to_the_exact_trace(small):  # noqa: F811
    """The limit of sampling is the expectation over all continuations, weighted by probability."""
    context = [0, 1, 2, 3]
    probabilities = small.model(input_ids=torch.tensor([context])).logits[0].softmax(-1).detach()
    exact: dict[str, torch.Tensor] = {}
    for labels in itertools.product(range(6), repeat=2):
        probability = probabilities[1, labels[0]] * probabilities[2, labels[1]]
        found = compute(small, rows(context, [[-100, -100, *labels]]), labels="observed").tensors
        for name in (name for name in found if name.endswith(".G")):
            exact[name] = exact.get(name, 0) + probability * found[name]
    sampled = compute(small, rows(context, [[-100, -100, 0, 0]] * 100), draws=64, batch_size=100, smoothing=0).tensors
    for name, tensor in exact.items():
        assert (sampled[name] - tensor).norm() < 0.06 * tensor.norm(), name
