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
    """A PEFT model in eval mode that answers as the candidate, as its parent or as the base.

    `candidate` names the candidate's adapter within the model. Without a parent the parent's view is the base.
    """

    model: Any
    tokenizer: Any
    device: torch.device
    candidate: str
    has_parent: bool

    @contextmanager
    def using(self, view: View) -> Iterator[None]:
        """Answer as `view` within the block; every use of the model stands in such a block."""
        if view == "base" or (view == "parent" and not self.has_parent):
            with self.model.disable_adapter():
                yield
            return
        name = _PARENT if view == "parent" else self.candidate
        # peft walks over every module to switch: on a small model that costs as much as a batch.
        if self.model.active_adapter != name:
            self.model.set_adapter(name, inference_mode=True)
        yield

    def logits(self, input_ids: torch.Tensor, columns: torch.Tensor | None = None) -> torch.Tensor:
        """Logits of a right-padded batch, (rows, columns, vocabulary); only at `columns` where they are given.

        Under causal attention no token sees the padding to its right, so that it needs no mask.
        """
        keep = 0 if columns is None else columns
        logits: torch.Tensor = self.model(input_ids=input_ids, use_cache=False, logits_to_keep=keep).logits
        return logits


def load_views(model: sections.Model, lora: sections.Lora, *, candidate: Path, parent: Path | None) -> Views:
    """Load the base once and both adapters onto it.

    Raises ModelError for a model or adapter that is missing, unreadable or of another shape than configured.
    """
    loaded = models.load(model, lora, adapter=candidate, trainable=False, seed=0)
    name = loaded.model.active_adapter
    if parent is not None:
        adapters.read(parent, loaded.lora)  # what peft would load only in part, or fail on with an error of its own
        loaded.model.load_adapter(str(parent), adapter_name=_PARENT, is_trainable=False)
    loaded.model.set_adapter(name, inference_mode=True)
    loaded.model.eval()
    return Views(loaded.model, loaded.tokenizer, loaded.device, candidate=name, has_parent=parent is not None)
