"""Diagonal Fisher information of the LoRA factors: how much each weight matters to what the model says now.

F_i = Σ_n (∂ℓ_n/∂θ_i)² / Σ_n T_n, with ℓ_n = −Σ_t log p(y_t | y_<t, x) over the T_n supervised tokens of sequence n.
The square is taken per sequence (its score is a martingale difference, so that in expectation this is the sum of its
tokens' Fishers), never of a batch's sum or mean. Units: per supervised token, in nats per squared unit of weight.
Labels sampled from the model give the true Fisher, observed labels the empirical one; the two are never mixed.
Sources: Kirkpatrick et al. 2017; van de Ven 2025, "On the Computation of the Fisher Information in Continual Learning".
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch.nn import functional

from learning_engine import sections
from learning_engine.contracts import LoraShape
from learning_engine.errors import DatasetError, FisherMismatch
from learning_engine.learning.batches import Row, Rows, collate, longest_first
from learning_engine.learning.collector import per_sequence_gradients
from learning_engine.learning.forward import supervised_logits
from learning_engine.learning.model import Loaded, lora_weights

UNITS = "per_supervised_token"


@dataclass(frozen=True)
class FisherInformation:
    """`diagonal` has the names and shapes of the adapter's file, float32, on the CPU.

    `guards` is the version (or "base") whose knowledge it measures, `accumulated` the earlier ones folded in, oldest
    first, each fold with the factor `decay`. Counts are those of `guards` alone.
    """

    diagonal: dict[str, torch.Tensor]
    kind: str
    labels: str
    units: str
    n_sequences: int
    n_tokens: int
    base_model: str
    base_revision: str
    lora: LoraShape
    guards: str
    accumulated: tuple[str, ...] = ()
    decay: float = 1.0


def compute(loaded: Loaded, examples: Any, settings: sections.Fisher, *, seed: int, guards: str) -> FisherInformation:
    """Fisher information of `loaded`'s adapter on `examples`, or on `max_sequences` of them chosen by `seed`.

    Equal seeds give equal results whatever the batch size, up to rounding. Raises DatasetError where nothing is
    supervised, ModelError where a LoRA layer runs twice in a forward pass.
    """
    rows = Rows(examples)
    chosen = np.arange(len(rows))
    if len(rows) > settings.max_sequences:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[: settings.max_sequences])
    squares = {name: torch.zeros_like(weight) for name, weight in lora_weights(loaded.model).items()}
    draws = settings.draws if settings.labels == "sampled" else 1
    n_tokens = 0

    def take(name: str, gradients: torch.Tensor) -> None:
        squares[name] += gradients.square().sum(0)

    was_training = loaded.model.training
    loaded.model.eval()
    try:
        with torch.enable_grad(), per_sequence_gradients(loaded.model, take) as before_forward:
            for indices in longest_first(rows.lengths, chosen, batch_size=settings.batch_size):
                before_forward()
                n_tokens += _backward(loaded, [rows[index] for index in indices], settings.labels, draws, seed)
    finally:
        loaded.model.train(was_training)
    if n_tokens == 0:
        raise DatasetError(f"Expected supervised tokens to measure the Fisher information of {guards} on, found none")
    return FisherInformation(
        diagonal={name: (square / (draws * n_tokens)).cpu() for name, square in squares.items()},
        kind="diagonal",
        labels=settings.labels,
        units=UNITS,
        n_sequences=len(chosen),
        n_tokens=n_tokens,
        base_model=loaded.base,
        base_revision=loaded.revision,
        lora=loaded.lora,
        guards=guards,
    )


def accumulate(new: FisherInformation, old: FisherInformation, decay: float) -> FisherInformation:
    """Online EWC (Schwarz et al. 2018): F = F_new + decay · F_old. Raises FisherMismatch for two of different kinds."""
    for field in ("kind", "labels", "units", "base_model", "base_revision", "lora"):
        _same(field, getattr(new, field), getattr(old, field), f"the Fisher information of {old.guards}")
    return replace(
        new,
        diagonal={name: tensor + decay * old.diagonal[name] for name, tensor in new.diagonal.items()},
        accumulated=(*old.accumulated, old.guards),
        decay=decay,
    )


def save(information: FisherInformation, path: Path) -> None:
    """Write one safetensors file with its metadata; equal information gives equal bytes."""
    about = {name: value for name, value in asdict(replace(information, diagonal={})).items() if name != "diagonal"}
    # One metadata key only: safetensors writes several in an order that changes from call to call.
    metadata = {"fisher": json.dumps(about, sort_keys=True)}
    safetensors.torch.save_file(information.diagonal, path, metadata=metadata)


def load(
    path: Path, *, base_model: str, base_revision: str, lora: LoraShape, kind: str, labels: str
) -> FisherInformation:
    """Read what `save` wrote. Raises FisherMismatch where it is unreadable or not what is asked for."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["fisher"])
            diagonal = {name: file.get_tensor(name) for name in sorted(file.keys())}
        shape = about["lora"]
        about["lora"] = LoraShape(shape["rank"], shape["alpha"], tuple(shape["target_modules"]))
        about["accumulated"] = tuple(about["accumulated"])
        information = FisherInformation(diagonal=diagonal, **about)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FisherMismatch(f"Expected Fisher information of this package in {path.name}: {error!r}") from error
    expected = {"base_model": base_model, "base_revision": base_revision, "lora": lora, "kind": kind, "labels": labels}
    for field, value in {**expected, "units": UNITS}.items():
        _same(field, value, getattr(information, field), path.name)
    return information


def _backward(loaded: Loaded, rows: list[Row], labels: str, draws: int, seed: int) -> int:
    """One forward pass and one backward pass a draw of Σ_n ℓ_n; returns the number of supervised tokens."""
    batch = collate(rows)
    if not batch["supervised"]:
        return 0
    ids, observed = batch["input_ids"].to(loaded.device), batch["labels"].to(loaded.device)
    logits, tokens, owner = supervised_logits(loaded.model, ids, observed)
    counts = torch.bincount(owner, minlength=len(rows)).tolist()
    for draw in range(draws):
        if labels == "sampled":
            tokens = _sample(logits.detach(), _uniforms(rows, counts, draw=draw, seed=seed).to(logits.device))
        loss = functional.cross_entropy(logits, tokens, reduction="sum")
        torch.autograd.backward(loss, retain_graph=draw + 1 < draws)
    return int(batch["supervised"])


def _uniforms(rows: list[Row], counts: list[int], *, draw: int, seed: int) -> torch.Tensor:
    """A number in [0, 1) for each supervised token, from a generator of each row's own: batching cannot change it."""
    drawn = [np.random.default_rng([seed, row.index, draw]).random(n) for row, n in zip(rows, counts, strict=True)]
    return torch.from_numpy(np.concatenate(drawn)).float()


def _sample(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Tokens (S,) ~ softmax(logits) by inverting the cumulative distribution at `uniforms` (S,)."""
    cumulative = logits.softmax(-1).cumsum(-1)
    # Scaled by the last entry, which rounding leaves beside 1, no uniform number falls beyond the vocabulary.
    place = (uniforms[:, None].to(cumulative.dtype) * cumulative[:, -1:]).contiguous()
    return torch.searchsorted(cumulative, place, right=True).squeeze(1).clamp_(max=logits.shape[-1] - 1)


def _same(field: str, expected: object, found: object, where: str) -> None:
    if isinstance(expected, LoraShape) and isinstance(found, LoraShape):
        expected, found = _ordered(expected), _ordered(found)
    if expected != found:
        raise FisherMismatch(
            f"Expected Fisher information with {field} = {expected!r}, found {found!r} in {where}: kinds, base models "
            "and LoRA shapes are never mixed; compute it anew for this configuration"
        )


def _ordered(shape: LoraShape) -> tuple[int, float, list[str]]:
    return shape.rank, shape.alpha, sorted(shape.target_modules)
