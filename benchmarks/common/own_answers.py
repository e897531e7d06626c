"""A base model's own conversations: some guard it, others judge what training did to it."""

# ruff: noqa: TID253

from collections.abc import Sequence
from dataclasses import dataclass

import datasets

from common import chat
from learning_engine.evaluation import manners, prompts, self_written
from learning_engine.evaluation.self_written import Conversation
from learning_engine.evaluation.views import Views
from learning_engine.learning.model import Loaded
from learning_engine.records.report import Manners
from learning_engine.steps.anchor import ANSWER_TOKENS

BATCH = 32


@dataclass(frozen=True)
class Known:
    """What the base wrote: conversations that guard it, and others that judge it."""

    guarding: datasets.Dataset
    judged: datasets.Dataset


def left(loaded: Loaded, known: Known) -> Manners:
    """What is left of the base in the conversations that judge it, as the gate measures it."""
    return manners.of_base(_views(loaded), known.judged, batch_size=BATCH)


def know(loaded: Loaded, *, conversations: int, judged_by: int) -> Known:
    """What the base of `loaded` says, whose adapter is new. As in the package's anchor, half of the `conversations`
    that guard it answer the package's prompts, and half its own; it is judged by `judged_by` further prompts."""
    views = _views(loaded)
    built_in = prompts.read(None, limit=conversations // 2 + judged_by)
    own = self_written.prompts(views, count=conversations - conversations // 2, batch_size=BATCH, seed=0)
    guarding, judged = (
        _examples(loaded, self_written.answered(views, asked, tokens=ANSWER_TOKENS, batch_size=BATCH))
        for asked in ([*built_in[:-judged_by], *own], built_in[-judged_by:])
    )
    return Known(guarding, judged)


def _views(loaded: Loaded) -> Views:
    return Views(loaded.model, loaded.tokenizer, loaded.device, loaded.model.active_adapter, has_parent=False)


def _examples(loaded: Loaded, written: Sequence[Conversation]) -> datasets.Dataset:
    votes = [(each.messages[-1]["content"], each.answer, 1) for each in written]
    return chat.encode(loaded, votes, unfinished={place for place, each in enumerate(written) if each.unfinished})
