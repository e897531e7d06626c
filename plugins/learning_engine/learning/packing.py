"""Pack rows of unequal length into one long row without padding, where each row attends only to itself.

A packed batch is (1, Σ t), with each token's position within its own row. Attention is split at row boundaries into
one call of PyTorch's SDPA per row, so that it costs Σ t² and not (Σ t)². If all layers use full attention, every other
operation of the model is per token. Rows of similar length run faster padded, with one call for all.
"""

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from learning_engine.errors import ModelError

BY_ROW = "sdpa_by_row"
# On a CPU with short rows, one attention call per row takes about a tenth of the time of everything else.
MAX_FILL_TO_PACK = 0.9


def enable(base: Any) -> None:
    """Let the transformers model `base` run packed batches if it uses plain SDPA with full attention everywhere."""
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
            base(**packed_inputs(two_rows, torch.ones_like(two_rows, dtype=torch.bool)), use_cache=False)
    except Exception:  # noqa: BLE001 (a model that fails on packed input, for any reason, runs padded)
        base.set_attn_implementation("sdpa")


def enabled(model: Any) -> bool:
    return bool(model.config._attn_implementation == BY_ROW)


def needed_tokens(predicting: torch.Tensor) -> torch.Tensor:
    """Mask (n, t) of the tokens at or before the last position of their row that predicts a supervised token."""
    return predicting.flip(1).cumsum(1).flip(1) > 0


def tokens_to_pack(model: Any, predicting: torch.Tensor) -> torch.Tensor | None:
    """Mask (n, t) of the tokens to pack (see `needed_tokens`), or None to run the batch padded."""
    if not enabled(model):
        return None
    tokens = needed_tokens(predicting)
    real = int(tokens.sum())
    return tokens if 0 < real < MAX_FILL_TO_PACK * tokens.numel() else None


def packed_inputs(input_ids: torch.Tensor, kept: torch.Tensor) -> dict[str, Any]:
    """The model's inputs for the tokens of `input_ids` (n, t) where `kept` (n, t) is true, a prefix of each row.

    Rows without a kept token are left out.
    """
    places = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    return {
        "input_ids": input_ids[kept][None],
        "position_ids": places[kept][None],
        # transformers passes a 4-dimensional mask through; without one it would build a (Σ t, Σ t) mask.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=input_ids.device),
        "row_lengths": [length for length in kept.sum(1).tolist() if length],
    }


def unpack(states: torch.Tensor, shape: torch.Size, places: torch.Tensor) -> torch.Tensor:
    """Unpack (1, Σ t, d) into rows (n, t, d) with (n, t) = `shape`: values at the flat indices `places` (Σ t,), zeros
    elsewhere."""
    rows = states.new_zeros(shape.numel(), states.shape[-1])
    return rows.index_copy_(0, places, states[0]).view(*shape, -1)


def _packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    row_lengths: list[int] | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """SDPA over (1, heads, Σ t, d) row by row; an ordinary batch goes to the usual SDPA.

    Raises ModelError if a layer of the model drops `row_lengths`, replaces the mask or adds a sliding window: a token
    could then attend to another row, or to too little.
    """
    marked = attention_mask is not None and attention_mask.shape[2:] == (1, 1)
    lengths_lost = marked and row_lengths is None and key.shape[2] > 1
    if lengths_lost or (row_lengths and (not marked or options.get("sliding_window") is not None)):
        raise ModelError(
            f"Expected {type(module).__name__} to pass on the row lengths and mask of a packed batch, found a mask of "
            "its own or no row lengths: set model.attention to eager"
        )
    if row_lengths is None:
        answer: torch.Tensor = sdpa_attention_forward(module, query, key, value, attention_mask, **options)[0]
        return answer, None
    rows = zip(*(torch.split(states, row_lengths, dim=2) for states in (query, key, value)), strict=True)
    return torch.cat([sdpa_attention_forward(module, *row, None, **options)[0] for row in rows], dim=1), None


AttentionInterface.register(BY_ROW, _packed_attention)
AttentionMaskInterface.register(BY_ROW, sdpa_mask)
