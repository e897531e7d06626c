"""What training minimises, besides the EWC penalty.

weighted_sft: L = Σ_n w_n Σ_t ℓ_nt / Σ_n w_n T_n in nats per supervised token, with ℓ_nt = −log p(y_t | y_<t, x),
w_n the weight of row n's rating and T_n its supervised tokens. Numerator and denominator are summed over all
micro-batches of an optimizer step before they are divided, so that accumulating gradients gives exactly the loss of
the whole batch.
A disliked row with w_n > 0 is still reinforced, only less.
"""

from typing import Any

import torch
from torch.nn import functional

from learning_engine.learning.forward import supervised_logits


def weighted_sft(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Σ_n w_n Σ_t ℓ_nt of a batch of `batches.collate`, a scalar in nats; divide by Σ `supervised_weight`."""
    logits, tokens, rows = supervised_logits(model, batch["input_ids"], batch["labels"])
    losses = functional.cross_entropy(logits, tokens, reduction="none")
    weights: torch.Tensor = batch["weight"].to(losses.dtype)[rows]
    return (weights * losses).sum()


OBJECTIVES = {"weighted_sft": weighted_sft}
