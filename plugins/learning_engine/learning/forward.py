"""One forward pass with logits only where a token is supervised, and no work on padding where attention allows it.

At a vocabulary of 128,000 the logits are most of a batch's memory, and in feedback most tokens are prompt.
"""

from typing import Any

import torch

from learning_engine.learning import packing
from learning_engine.learning.batches import IGNORED


def supervised_logits(
    model: Any, input_ids: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run a right-padded batch (n, t) and return, for its S supervised tokens in row order,

    logits (S, vocabulary) in float32 or better, the observed tokens (S,), and the row that each belongs to (S,).
    The position before a token predicts it, so that a row's first token is never supervised.
    """
    predicting = labels[:, 1:] != IGNORED
    inputs, picked = {"input_ids": input_ids}, torch.nn.functional.pad(predicting, (0, 1))
    kept = packing.kept(model, predicting)
    if kept is not None:
        inputs, picked = packing.arguments(input_ids[:, :-1], kept), predicting[kept][None]
    # Narrowing the input of the output layer, not its result, leaves whatever a model does to its logits in place.
    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, entered: (entered[0][picked], *entered[1:]))
    try:
        logits = model(**inputs, use_cache=False).logits
    finally:
        handle.remove()
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide, labels[:, 1:][predicting], predicting.nonzero()[:, 0]
