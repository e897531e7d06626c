"""Pack rows of unequal length into one long row without padding, where each row attends only to itself.

A packed batch is (1, Σ t), with each token's position within its own row. Attention is split at row boundaries into
one call of PyTorch's SDPA per row, so that it costs Σ t² and not (Σ t)². If all layers use full attention, every other
operation of the model is per token. Rows of similar length run faster padded, with one call for all.

Rows that begin alike, usually with the same system prompt, can share that beginning: it is computed once, and the other
rows attend to it. Losses and gradients stay the same, because no token of the beginning attends to what follows it.
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
    kept = torch.tensor([[True, True], [False, True]], device=base.device)
    try:
        with torch.no_grad():
            base(**packed_inputs(two_rows, kept, shared=1), use_cache=False)
    except Exception:  # noqa: BLE001 (a model that fails on packed input, for any reason, runs padded)
        base.set_attn_implementation("sdpa")


def enabled(model: Any) -> bool:
    return bool(model.config._attn_implementation == BY_ROW)


def needed_tokens(predicting: torch.Tensor) -> torch.Tensor:
    """Mask (n, t) of the tokens at or before the last position of their row that predicts a supervised token."""
    return predicting.flip(1).cumsum(1).flip(1) > 0


def shared_prefix(input_ids: torch.Tensor, predicting: torch.Tensor) -> int:
    """How many tokens all rows of `input_ids` (n, t) begin with alike, before any that predicts a supervised token.

    Rows without a supervised token do not count; a single row shares nothing.
    """
    used = predicting.any(1)
    rows = input_ids[used][:, : predicting.shape[1]]
    if len(rows) < 2:
        return 0
    alike = (rows == rows[0]).all(0) & ~predicting[used].any(0)
    return int(alike.cumprod(0).sum())


def tokens_to_pack(model: Any, predicting: torch.Tensor, *, shared: int = 0) -> torch.Tensor | None:
    """Mask (n, t) of the tokens to pack (see `needed_tokens`), or None to run the batch padded.

    The first `shared` tokens are packed for the first row with a supervised token only.
    """
    if not enabled(model):
        return None
    tokens = needed_tokens(predicting)
    if shared:
        tokens[int(tokens[:, 0].nonzero()[0]) + 1 :, :shared] = False
    real = int(tokens.sum())
    return tokens if 0 < real < MAX_FILL_TO_PACK * tokens.numel() else None


def packed_inputs(input_ids: torch.Tensor, kept: torch.Tensor, *, shared: int = 0) -> dict[str, Any]:
    """The model's inputs for the tokens of `input_ids` (n, t) where `kept` (n, t) is true, consecutive in each row.

    With `shared`, every row after the first continues the first row's `shared` tokens. Rows without a kept token are
    left out.
    """
    places = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    lengths = [length for length in kept.sum(1).tolist() if length]
    return {
        "input_ids": input_ids[kept][None],
        "position_ids": places[kept][None],
        # transformers passes a 4-dimensional mask through; without one it would build a (Σ t, Σ t) mask.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=input_ids.device),
        "row_lengths": lengths,
        "prefix_masks": _prefix_masks(lengths, shared, input_ids.device) if shared else None,
    }


def unpack(states: torch.Tensor, shape: torch.Size, places: torch.Tensor) -> torch.Tensor:
    """Unpack (1, Σ t, d) into rows (n, t, d) with (n, t) = `shape`: values at the flat indices `places` (Σ t,), zeros
    elsewhere."""
    rows = states.new_zeros(shape.numel(), states.shape[-1])
    return rows.index_copy_(0, places, states[0]).view(*shape, -1)


def _prefix_masks(lengths: list[int], shared: int, device: torch.device) -> list[torch.Tensor]:
    """For each row after the first, the mask (length, shared + length) of the tokens that each of its tokens sees."""
    longest = max(lengths[1:], default=0)
    mask = torch.ones(longest, shared + longest, dtype=torch.bool, device=device).tril(shared)
    return [mask[:length, : shared + length] for length in lengths[1:]]


def _packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    row_lengths: list[int] | None = None,
    prefix_masks: list[torch.Tensor] | None = None,
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
    rows = list(zip(*(torch.split(states, row_lengths, dim=2) for states in (query, key, value)), strict=True))
    if not prefix_masks:
        return torch.cat([sdpa_attention_forward(module, *row, None, **options)[0] for row in rows], dim=1), None
    shared = prefix_masks[0].shape[1] - prefix_masks[0].shape[0]
    before = [states[:, :, :shared] for states in (key, value)]
    answers = [sdpa_attention_forward(module, *rows[0], None, **options)[0]]
    for (asking, *row), mask in zip(rows[1:], prefix_masks, strict=True):
        seen = [torch.cat(pair, dim=2) for pair in zip(before, row, strict=True)]
        answers.append(sdpa_attention_forward(module, asking, *seen, mask[None, None], **options)[0])
    return torch.cat(answers, dim=1), None


AttentionInterface.register(BY_ROW, _packed_attention)
AttentionMaskInterface.register(BY_ROW, sdpa_mask)
