"""Task losses: what training minimises in addition to the EWC penalty.

weighted_sft: L = Σ_n w_n Σ_t ℓ_nt / Σ_n w_n T_n in nats per supervised token, with ℓ_nt = −log p(y_t | y_<t, x),
w_n the weight of row n's rating and T_n its number of supervised tokens. A disliked row with w_n > 0 is still
reinforced, only less. sft_npo and kto: see the modules of these names.

Numerator and denominator are each summed over all micro-batches of an optimizer step, then divided. Gradient
accumulation therefore gives exactly the loss of the whole batch.
"""

# ruff: noqa: ARG002 (not every objective needs every argument)

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from learning_engine.config import sections
from learning_engine.learning.batches import Rows
from learning_engine.learning.forward import supervised_logits
from learning_engine.learning.kto import Kto
from learning_engine.learning.model import Loaded
from learning_engine.learning.sft_npo import SftNpo


class Objective(Protocol):
    """Call `prepare` once; then, per optimizer step, call `begin_step`, and the objective for each micro-batch."""

    def prepare(self, loaded: Loaded, rows: Rows, used: np.ndarray) -> list[str]:
        """Compute what the objective needs from the parent, while `loaded` is still the parent.

        Training draws from `rows[used]`. Returns warnings for the user.
        """
        ...

    def begin_step(self, model: Any, batches: Sequence[dict[str, Any]]) -> float:
        """The divisor for the summed losses of this step's micro-batches, which come from `batches.collate`."""
        ...

    def __call__(self, model: Any, batch: dict[str, Any]) -> torch.Tensor:
        """The summed loss of one micro-batch, a differentiable scalar."""
        ...


class WeightedSft:
    """Cross-entropy on every rated answer, weighted by its rating."""

    def prepare(self, loaded: Loaded, rows: Rows, used: np.ndarray) -> list[str]:
        disliked = int((rows.ratings[used] < 0).sum())
        if not disliked:
            return []
        return [
            f"training.objective weighted_sft makes {disliked} disliked answers more likely too, though less than "
            "liked ones: set dataset.weight_down to 0 to leave them out, or training.objective to sft_npo"
        ]

    def begin_step(self, model: Any, batches: Sequence[dict[str, Any]]) -> float:
        """Σ_n w_n T_n."""
        return float(sum(batch["supervised_weight"] for batch in batches))

    def __call__(self, model: Any, batch: dict[str, Any]) -> torch.Tensor:
        """Σ_n w_n Σ_t ℓ_nt in nats."""
        logits, tokens, rows = supervised_logits(model, batch["input_ids"], batch["labels"])
        losses = functional.cross_entropy(logits, tokens, reduction="none")
        weights: torch.Tensor = batch["weight"].to(losses.dtype)[rows]
        return (weights * losses).sum()


def choose(training: sections.Training, *, rows_at_once: int) -> Objective:
    """The objective that `training` names. Its `prepare` runs the model on `rows_at_once` rows at a time."""
    if training.objective == "kto":
        return Kto(beta=training.kto_beta, seed=training.seed, batch_size=rows_at_once)
    if training.objective == "sft_npo":
        return SftNpo(beta=training.kto_beta, batch_size=rows_at_once)
    return WeightedSft()
