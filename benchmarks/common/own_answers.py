"""A base model's own conversations: some guard it, others judge what training did to it."""

# ruff: noqa: TID253

from collections.abc import Sequence
from dataclasses import dataclass

import datasets
import torch
from torch.nn import functional

from common import chat
from learning_engine.evaluation import prompts, self_written
from learning_engine.evaluation.self_written import Conversation
from learning_engine.evaluation.views import Views
from learning_engine.learning.batches import Rows, collate
from learning_engine.learning.forward import supervised_logits
from learning_engine.learning.model import Loaded
from learning_engine.steps.anchor import ANSWER_TOKENS

BATCH = 32


@dataclass(frozen=True)
class Known:
    """What the base wrote: conversations that guard it, and others that judge it, with their loss in nats per token."""

    guarding: datasets.Dataset
    judged: datasets.Dataset
    loss: float


def base_loss(loaded: Loaded, judged: datasets.Dataset) -> float:
    """Loss of the base's own answers, in nats per token."""
    rows, total, count = Rows(judged), 0.0, 0
    with torch.no_grad():
        for start in range(0, len(rows), 8):
            batch = collate([rows[row] for row in range(start, min(start + 8, len(rows)))])
            ids, labels = (batch[name].to(loaded.device) for name in ("input_ids", "labels"))
            logits, tokens, _ = supervised_logits(loaded.model, ids, labels)
            total += float(functional.cross_entropy(logits, tokens, reduction="sum"))
            count += len(tokens)
    return total / count


def know(loaded: Loaded, *, conversations: int, judged_by: int) -> Known:
    """Let the base of `loaded`, whose adapter is new, write `conversations`, and answer `judged_by` of the package's
    prompts."""
    views = Views(loaded.model, loaded.tokenizer, loaded.device, loaded.model.active_adapter, has_parent=False)
    own = self_written.prompts(views, count=conversations, batch_size=BATCH, seed=0)
    asked = prompts.read(None, limit=judged_by)
    guarding, judged = (
        _examples(loaded, self_written.answered(views, each, tokens=ANSWER_TOKENS, batch_size=BATCH))
        for each in (own, asked)
    )
    return Known(guarding, judged, base_loss(loaded, judged))


def _examples(loaded: Loaded, written: Sequence[Conversation]) -> datasets.Dataset:
    return chat.encode(loaded, [(each.messages[-1]["content"], each.answer, 1) for each in written])
