"""A forward pass that computes logits at supervised tokens only, packed where the model's attention allows it.

With a vocabulary of 128,000, logits take most of a batch's memory, and most tokens of feedback belong to prompts.
"""

from typing import Any

import torch

from learning_engine.learning import packing
from learning_engine.learning.batches import IGNORED


def supervised_logits(
    model: Any, input_ids: torch.Tensor, labels: torch.Tensor, *, share_prefix: bool = True
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run a right-padded batch (n, t). Return, for its S supervised tokens in row order, the logits (S, vocabulary) in
    float32 or better, the observed tokens (S,), and the row index of each (S,).

    The position before a token predicts it, so a row's first token is never supervised. Rows that begin alike run that
    beginning once, unless `share_prefix` is false because a caller needs the activations of each row.
    """
    predicting = labels[:, 1:] != IGNORED
    inputs, picked = {"input_ids": input_ids}, torch.nn.functional.pad(predicting, (0, 1))
    shared = packing.shared_prefix(input_ids, predicting) if share_prefix and packing.enabled(model) else 0
    kept = packing.tokens_to_pack(model, predicting, shared=shared)
    if kept is not None:
        inputs, picked = packing.packed_inputs(input_ids[:, :-1], kept, shared=shared), predicting[kept][None]
    # Select positions before the output layer, so that any scaling or capping of logits in the model still applies.
    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, entered: (entered[0][picked], *entered[1:]))
    try:
        logits = model(**inputs, use_cache=False).logits
    finally:
        handle.remove()
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide, labels[:, 1:][predicting], predicting.nonzero()[:, 0]
