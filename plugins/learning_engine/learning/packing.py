"""Rows of unequal length as one long row: no work on padding, and each row attends to itself alone.

A packed batch is (1, Σ t) with the position of each token in its own row. Attention is split at the rows' ends, one
call of PyTorch's SDPA each, so that its work is Σ t² and not (Σ t)²; all else in a model whose every layer is full
attention looks at one token at a time. Rows of about one length are faster padded, with one call for all.
"""

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from learning_engine.errors import ModelError

BY_ROW = "sdpa_by_row"
# Of short rows on a CPU, an attention call each takes as long as a tenth of the rest.
WORTH_PACKING = 0.9


def allow(base: Any) -> None:
    """Let the transformers model `base` run packed batches, where its attention is plain SDPA over the whole row."""
    config = base.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if (
        base.config._attn_implementation != "sdpa"
        or not base._supports_attention_backend
        or kinds != {"full_attention"}
        or getattr(config, "sliding_window", None) is not None
    ):
        return
    base.set_attn_implementation(BY_ROW)
    two_rows = torch.zeros(2, 2, dtype=torch.long, device=base.device)
    try:
        with torch.no_grad():
            base(**arguments(two_rows, torch.ones_like(two_rows, dtype=torch.bool)), use_cache=False)
    except Exception:  # noqa: BLE001 (what it does not take packed, for whatever reason, it takes padded)
        base.set_attn_implementation("sdpa")


def allowed(model: Any) -> bool:
    return bool(model.config._attn_implementation == BY_ROW)


def needed(predicting: torch.Tensor) -> torch.Tensor:
    """Where a token (n, t) stands at or before the last of its row that predicts a supervised one."""
    return predicting.flip(1).cumsum(1).flip(1) > 0


def kept(model: Any, predicting: torch.Tensor) -> torch.Tensor | None:
    """The tokens (n, t) to pack, those `needed`, or None where the batch is to run padded."""
    if not allowed(model):
        return None
    tokens = needed(predicting)
    real = int(tokens.sum())
    return tokens if 0 < real < WORTH_PACKING * tokens.numel() else None


def arguments(input_ids: torch.Tensor, kept: torch.Tensor) -> dict[str, Any]:
    """What the model is called with for the tokens of `input_ids` (n, t) where `kept` (n, t) is true: each row's first.

    A row of which nothing is kept is left out.
    """
    places = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    return {
        "input_ids": input_ids[kept][None],
        "position_ids": places[kept][None],
        # Passed on as it is, since it has four dimensions; else a (Σ t, Σ t) mask would be made of the positions.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=input_ids.device),
        "row_lengths": [length for length in kept.sum(1).tolist() if length],
    }


def unpacked(states: torch.Tensor, shape: torch.Size, places: torch.Tensor) -> torch.Tensor:
    """(1, Σ t, d) as rows again, (n, t, d) with (n, t) = `shape`: at the flat `places` (Σ t,), zeros elsewhere."""
    rows = states.new_zeros(shape.numel(), states.shape[-1])
    return rows.index_copy_(0, places, states[0]).view(*shape, -1)


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    row_lengths: list[int] | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """SDPA of (1, heads, Σ t, d) row by row, or of a batch that is not packed as ever.

    Raises ModelError where a model's own layers do not hand on what tells the two apart, or narrow attention further:
    a token would see what it must not.
    """
    marked = attention_mask is not None and attention_mask.shape[2:] == (1, 1)
    lost = marked and row_lengths is None and key.shape[2] > 1
    if lost or (row_lengths and (not marked or options.get("sliding_window") is not None)):
        raise ModelError(
            f"Expected {type(module).__name__} to attend to whole packed rows as they are, found a mask of its own or "
            "none of the rows' lengths: set model.attention to eager"
        )
    if row_lengths is None:
        answer: torch.Tensor = sdpa_attention_forward(module, query, key, value, attention_mask, **options)[0]
        return answer, None
    rows = zip(*(torch.split(states, row_lengths, dim=2) for states in (query, key, value)), strict=True)
    return torch.cat([sdpa_attention_forward(module, *row, None, **options)[0] for row in rows], dim=1), None


AttentionInterface.register(BY_ROW, _attend)
AttentionMaskInterface.register(BY_ROW, sdpa_mask)
