"""Candidate, parent and base over one copy of the base model's weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from learning_engine.config import sections
from learning_engine.learning import adapter as adapters
from learning_engine.learning import model as models

View = Literal["candidate", "parent", "base"]
_PARENT = "parent"


@dataclass(frozen=True)
class Views:
    """A PEFT model in eval mode that can act as the candidate, its parent or the base.

    `candidate` names the candidate's adapter in the model. Without a parent, the parent's view is the base.
    """

    model: Any
    tokenizer: Any
    device: torch.device
    candidate: str
    has_parent: bool

    @contextmanager
    def using(self, view: View) -> Iterator[None]:
        """Act as `view` within the block. Every use of the model must be in such a block."""
        if view == "base" or (view == "parent" and not self.has_parent):
            with self.model.disable_adapter():
                yield
            return
        name = _PARENT if view == "parent" else self.candidate
        # Switching visits every module; on a small model that costs as much as a batch.
        if self.model.active_adapter != name:
            self.model.set_adapter(name, inference_mode=True)
        yield

    def logits(self, input_ids: torch.Tensor, columns: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of a right-padded batch, (rows, columns, vocabulary), at all columns or at `columns` only.

        No mask is needed: under causal attention no token attends to the padding on its right.
        """
        keep = 0 if columns is None else columns
        logits: torch.Tensor = self.model(input_ids=input_ids, use_cache=False, logits_to_keep=keep).logits
        return logits


def load_views(model: sections.Model, lora: sections.Lora, *, candidate: Path, parent: Path | None) -> Views:
    """Load the base once, with both adapters.

    Raises ModelError if the model or an adapter is missing, unreadable or not of the configured shape.
    """
    loaded = models.load(model, lora, adapter=candidate, trainable=False, seed=0)
    name = loaded.model.active_adapter
    if parent is not None:
        adapters.read(parent, loaded.lora)  # check first: peft might load it only in part, or raise its own error
        loaded.model.load_adapter(str(parent), adapter_name=_PARENT, is_trainable=False)
    loaded.model.set_adapter(name, inference_mode=True)
    loaded.model.eval()
    return Views(loaded.model, loaded.tokenizer, loaded.device, candidate=name, has_parent=parent is not None)
