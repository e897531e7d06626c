"""Fisher information of an adapter: how strongly the model's predictions depend on each weight.

F = Σ_n s_n s_nᵀ / Σ_n T_n with the score s_n = ∂ℓ_n/∂θ, ℓ_n = −Σ_t log p(y_t | y_<t, x) over the T_n supervised
tokens of sequence n, in nats per supervised token. The product is taken per sequence, never of a batch's sum or mean:
token scores are martingale differences, so in expectation it equals the sum of the tokens' Fisher information.
Labels sampled from the model give the true Fisher information, observed labels the empirical one. The two are never
mixed.
If the model is certain of every token, its true Fisher information vanishes, and a penalty would not protect what the
model knows best. Sampled labels can therefore be smoothed: labels y are drawn from q = (1 − ε) p + ε / V over the V
tokens, and the score is taken at the same q, ∂ℓ/∂logits = q − e_y. Its mean stays zero. With J the Jacobian of the
logits, the expectation of F is Σ_t Jᵀ(diag q − q qᵀ)J: the Fisher information of a model that has this Jacobian and
predicts q.
The structure, `diagonal` or `kronecker`, says which part of F is kept.
Sources: Kirkpatrick et al. 2017; van de Ven 2025, "On the Computation of the Fisher Information in Continual Learning".
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.distributed

from learning_engine.config import sections
from learning_engine.errors import DatasetError
from learning_engine.learning import diagonal, kronecker, memory, sketch
from learning_engine.learning.batches import IGNORED, Row, Rows, collate, longest_first
from learning_engine.learning.capture import GradientCapture
from learning_engine.learning.diagonal import DiagonalSums
from learning_engine.learning.forward import supervised_logits
from learning_engine.learning.information import FisherInformation, check_compatible
from learning_engine.learning.kronecker import KroneckerSums
from learning_engine.learning.model import Loaded
from learning_engine.records.contracts import MEASURED

SUMS: dict[str, type[DiagonalSums] | type[KroneckerSums]] = {"diagonal": DiagonalSums, "kronecker": KroneckerSums}


def compute(loaded: Loaded, examples: Any, settings: sections.Fisher, *, seed: int, guards: str) -> FisherInformation:
    """Fisher information of the adapter of `loaded` on `examples`, or on `max_sequences` of them chosen by `seed`.

    Equal seeds give equal results for any batch size, up to rounding. In a data-parallel run each process takes its
    share of the batches, and all return the same result. A single process that runs out of memory halves its batches.
    Raises OutOfMemory if one row does not fit, DatasetError if no token is supervised, ModelError if an adapted layer
    runs twice in a forward pass.
    """
    if torch.distributed.is_initialized():
        return _compute(loaded, examples, settings, settings.batch_size, seed, guards)
    return memory.retry_with_smaller_batches(
        lambda at_once: _compute(loaded, examples, settings, at_once, seed, guards),
        batch_size=settings.batch_size,
        what=f"measure the Fisher information of {guards}",
        advice="Lower dataset.max_tokens, set model.quantization, or measure fisher.structure diagonal.",
    )


def _compute(
    loaded: Loaded, examples: Any, settings: sections.Fisher, batch_size: int, seed: int, guards: str
) -> FisherInformation:
    rows = Rows(examples)
    chosen = np.arange(len(rows))
    if len(rows) > settings.max_sequences:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[: settings.max_sequences])
    sums = SUMS[settings.structure](loaded.model)
    draws = settings.draws if settings.labels == "sampled" else 1
    n_tokens = 0
    was_training = loaded.model.training
    loaded.model.eval()
    try:
        with torch.enable_grad(), sums.capturing():
            for indices in _share(longest_first(rows.lengths, chosen, batch_size=batch_size)):
                n_tokens += _backward(loaded, [rows[index] for index in indices], sums, settings, seed)
    finally:
        loaded.model.train(was_training)
    n_tokens = _over_processes(sums.sums(), n_tokens, loaded.device)
    if n_tokens == 0:
        raise DatasetError(
            f"Expected a liked row with supervised tokens to measure the Fisher information of {guards}, found none: "
            "choose another window or, for the base model, another fisher.anchor."
        )
    return FisherInformation(
        tensors=sums.finish(n_tokens=n_tokens, draws=draws),
        kind=settings.structure,
        labels=settings.labels,
        smoothing=settings.smoothing_of_labels,
        units=MEASURED,
        n_sequences=len(chosen),
        n_tokens=n_tokens,
        base_model=loaded.base,
        base_revision=loaded.revision,
        lora=loaded.lora,
        guards=guards,
    )


def accumulate(new: FisherInformation, old: FisherInformation, settings: sections.Fisher) -> FisherInformation:
    """Online EWC (Schwarz et al. 2018): F = F_new + γ · F_old. Kronecker factors are moved out of `new`.

    Raises FisherMismatch if the two are incompatible.
    """
    check_compatible(new, old)
    if new.kind == "diagonal":
        tensors = diagonal.accumulate(new.tensors, old.tensors, settings.decay)
    else:
        tensors = kronecker.accumulate(new.tensors, old.tensors, settings.decay)
    return replace(
        new,
        tensors=tensors,
        accumulated=(*old.accumulated, old.guards),
        decay=settings.decay,
        weight=new.weight + settings.decay * old.weight,
    )


def inherited(old: FisherInformation, *, guards: str) -> FisherInformation:
    """`old` as the information of the version `guards`, which adds nothing of its own."""
    return replace(old, guards=guards, accumulated=(*old.accumulated, old.guards), n_sequences=0, n_tokens=0)


def fitted(information: FisherInformation, settings: sections.Fisher) -> FisherInformation:
    """The information within `settings.max_bytes`: unchanged if it fits, else with sketched Kronecker factors."""
    if information.kind == "diagonal":
        return information
    return replace(information, tensors=sketch.fitted(information.tensors, settings.max_bytes))


def _backward(loaded: Loaded, rows: list[Row], sums: GradientCapture, settings: sections.Fisher, seed: int) -> int:
    """Run one forward pass, and one backward pass of Σ_n ℓ_n per draw. Returns the number of supervised tokens."""
    batch = collate(rows)
    if not batch["supervised"]:
        return 0
    ids, observed = batch["input_ids"].to(loaded.device), batch["labels"].to(loaded.device)
    sums.begin_batch(observed[:, 1:] != IGNORED)
    logits, tokens, owner = supervised_logits(loaded.model, ids, observed, share_prefix=False)
    predicted = logits.detach().softmax(-1)
    if settings.labels == "observed":
        torch.autograd.backward(logits, _score(predicted, tokens))
        return int(batch["supervised"])
    predicted.mul_(1 - settings.smoothing).add_(settings.smoothing / predicted.shape[-1])
    counts = torch.bincount(owner, minlength=len(rows)).tolist()
    for draw in range(settings.draws):
        tokens = _sample(predicted, _uniforms(rows, counts, draw=draw, seed=seed).to(logits.device))
        torch.autograd.backward(logits, _score(predicted, tokens), retain_graph=draw + 1 < settings.draws)
    return int(batch["supervised"])


def _uniforms(rows: list[Row], counts: list[int], *, draw: int, seed: int) -> torch.Tensor:
    """A number in [0, 1) for each supervised token, from one generator per row, so that batching does not change it."""
    drawn = [np.random.default_rng([seed, row.index, draw]).random(n) for row, n in zip(rows, counts, strict=True)]
    return torch.from_numpy(np.concatenate(drawn)).float()


def _score(predicted: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """∂ℓ/∂logits (S, V) for the labels `tokens` (S,) and the predicted distributions `predicted` (S, V)."""
    score = predicted.clone()
    score[torch.arange(len(tokens), device=tokens.device), tokens] -= 1
    return score


def _sample(predicted: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Tokens (S,) ~ `predicted` (S, V) by inverting the cumulative distribution at `uniforms` (S,)."""
    cumulative = predicted.cumsum(-1)
    # Rounding leaves the last entry not exactly 1; scaling by it keeps every number within the vocabulary.
    place = (uniforms[:, None].to(cumulative.dtype) * cumulative[:, -1:]).contiguous()
    return torch.searchsorted(cumulative, place, right=True).squeeze(1).clamp_(max=predicted.shape[-1] - 1)


def _share(batches: Iterator[list[int]]) -> Iterator[list[int]]:
    """This process's share of the batches in a data-parallel run, else all batches."""
    if not torch.distributed.is_initialized():
        return batches
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return (batch for index, batch in enumerate(batches) if index % world == rank)


def _over_processes(sums: dict[str, torch.Tensor], n_tokens: int, device: torch.device) -> int:
    """Sum `sums` in place, and the token count, over the processes of a data-parallel run."""
    if not torch.distributed.is_initialized():
        return n_tokens
    count = torch.tensor(n_tokens, device=device)
    for tensor in (*sums.values(), count):
        moved = tensor.to(device)
        torch.distributed.all_reduce(moved)
        tensor.copy_(moved)
    return int(count)
