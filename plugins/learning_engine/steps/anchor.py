"""The anchor: conversations that show how the base model behaves, which no version may forget.

`fisher` measures the base's Fisher information on them, `train` replays them, and `evaluate` judges the candidate on
those that are held out. With `fisher.anchor: self` the base model writes them itself, once, and the bucket keeps them:
it answers the package's prompts and others that it writes through its chat template. They contain no user's text.
A file of feedback may be named instead, of which the liked rows are used, or null for none.

No prompt on which drift is measured (`evaluation.prompts`) is ever trained on: the base answers others of the
package's, and where such a prompt is its own or in a file, it is held out.
"""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from learning_engine import archive, telemetry
from learning_engine.config import Settings, digest
from learning_engine.errors import IntegrityError
from learning_engine.records.contracts import Window
from learning_engine.registry import manifest
from learning_engine.registry.store import NotFound
from learning_engine.steps.resources import Resources, read_window

if TYPE_CHECKING:
    from learning_engine.evaluation.prompts import Messages
    from learning_engine.evaluation.self_written import Conversation

SELF = "self"
# This share of the conversations, and at least so many, is never trained on: the gate judges by it what is left of the
# base.
HELDOUT, LEAST_HELDOUT = 0.25, 2
# Longer answers are cut, and taught without an end.
ANSWER_TOKENS = 64
# Large, because a step of decoding takes about as long for many answers as for one.
BATCH_SIZE, SEED = 64, 0
ALL_TIME = Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))


def fetch(resources: Resources, path: Path) -> bool:
    """Write the anchor to `path`, in the format of a snapshot. False if there is none, for the reason `why_none`."""
    import pyarrow.parquet

    configured = resources.settings.fisher.anchor
    if configured is None:
        return False
    if configured != SELF:
        _read(resources, Path(configured), path)
        return True
    key = manifest.anchor_key(identity(resources))
    try:
        resources.store.get_file(key, path)
    except (NotFound, IntegrityError):
        _write(resources, path)
        resources.store.put_file(key, path)
    return bool(pyarrow.parquet.read_metadata(path).num_rows)


def why_none(resources: Resources) -> str:
    if resources.settings.fisher.anchor is None:
        return "fisher.anchor is null"
    return "the base model gave no answer to its anchor's prompts; fisher.anchor can name a file of answers instead"


def identity(resources: Resources) -> str:
    """Identifies the anchor and the base model that it belongs to."""
    from learning_engine.evaluation.prompts import BUILT_IN
    from learning_engine.learning.base import base_revision

    settings = resources.settings
    configured = settings.fisher.anchor
    itself = configured == SELF
    what = {
        "source": archive.sha256_file(BUILT_IN if itself else Path(str(configured))),
        "prompts": [settings.fisher.anchor_prompts, ANSWER_TOKENS] if itself else None,
        "heldout": [HELDOUT, LEAST_HELDOUT, _of_drift(settings)],
        "base": [settings.model.base, base_revision(settings.model)],
    }
    return f"base-{digest(what)[:12]}"


def _read(resources: Resources, file: Path, path: Path) -> None:
    """Anchor data of one's own: a file with the columns of the feedback table."""
    from learning_engine.feedback.source import FileSource

    settings = resources.settings
    whole = {
        # Anchor data is trusted, so no rule against steering applies. It need not have the slices of the feedback.
        "feedback": settings.feedback.model_copy(
            update={"cap_per_user": None, "burst_votes": None, "min_agreement": None, "slices": {}}
        ),
    }
    anchored = replace(resources, settings=settings.model_copy(update=whole), open_feedback=lambda: FileSource(file))
    read_window(anchored, ALL_TIME, path)
    hold_out(settings, path)


def hold_out(settings: Settings, path: Path) -> None:
    """Keep the liked rows of the snapshot `path`, and mark HELDOUT of their conversations as held out, but never all.

    Those that ask a prompt of drift come first, then those with the smallest digests. If all rows are of one
    conversation, as they are where each begins with the same message and none has an id, it is divided by prompts.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from learning_engine.feedback.table import HELDOUT as HELDOUT_COLUMN
    from learning_engine.feedback.table import writing

    read = pq.read_table(path)
    rows = read.filter(pc.field("rating") > 0)
    asked, of_drift = rows["messages"].to_pylist(), _of_drift(settings)
    groups = rows["conversation"].to_pylist()
    if len(set(groups)) == 1:
        groups = list(map(_name, asked))
    held = _held_out(groups, {group for group, messages in zip(groups, asked, strict=True) if messages in of_drift})
    telemetry.event(
        "anchor.divided",
        rows=len(rows),
        disliked=len(read) - len(rows),
        conversations=len(set(groups)),
        heldout=len(held),
    )
    column = pa.array([group in held for group in groups], HELDOUT_COLUMN.type)
    rows = rows.set_column(rows.schema.get_field_index(HELDOUT_COLUMN.name), HELDOUT_COLUMN, column)
    with writing(path, rows.schema) as file:
        for batch in rows.to_batches():
            file.write(batch)


def _held_out(groups: list[str], first: set[str]) -> set[str]:
    ranked = sorted(set(groups), key=lambda group: (group not in first, group))
    count = max(int(HELDOUT * len(ranked)), LEAST_HELDOUT, len(first))
    return set(ranked[: min(count, len(ranked) - 1)])


def _of_drift(settings: Settings) -> "list[Messages]":
    """The prompts on which `evaluate` measures drift."""
    from learning_engine.evaluation import prompts

    return prompts.read(settings.evaluation.prompts, limit=settings.evaluation.max_prompts)


def _name(messages: "Messages") -> str:
    return hashlib.sha256(json.dumps(messages, ensure_ascii=False).encode()).hexdigest()


def _write(resources: Resources, path: Path) -> None:
    """Let the base model answer the package's prompts and prompts that it writes itself."""
    from learning_engine.evaluation import prompts, self_written
    from learning_engine.evaluation.views import Views
    from learning_engine.learning import memory, model

    settings = resources.settings
    loaded = model.load(settings.model, settings.lora, adapter=None, trainable=False, seed=SEED)
    views = Views(loaded.model, loaded.tokenizer, loaded.device, loaded.model.active_adapter, has_parent=False)
    wanted, of_drift = settings.fisher.anchor_prompts, _of_drift(settings)
    built_in = prompts.read(None, limit=wanted // 2 + len(of_drift))
    built_in = [messages for messages in built_in if messages not in of_drift][: wanted // 2]
    built_in = prompts.renderable(views.tokenizer, built_in) if built_in else []

    def attempt(at_once: int) -> "list[Conversation]":
        own = self_written.prompts(views, count=wanted - len(built_in), batch_size=at_once, seed=SEED)
        return self_written.answered(views, [*built_in, *own], tokens=ANSWER_TOKENS, batch_size=at_once)

    with telemetry.step("anchor", base=loaded.base, revision=loaded.revision) as result:
        found = memory.retry_with_smaller_batches(
            attempt,
            batch_size=BATCH_SIZE,
            what="let the base model write its anchor",
            advice="Set model.quantization, or fisher.anchor to a file of answers.",
        )
        result.update(conversations=len(found), wanted=wanted)
        _save(found, path)
        hold_out(settings, path)


def _save(conversations: "list[Conversation]", path: Path) -> None:
    from learning_engine.feedback.clean import Row
    from learning_engine.feedback.shapes import Message
    from learning_engine.feedback.table import HELDOUT as HELDOUT_COLUMN
    from learning_engine.feedback.table import TRAINED, UNFINISHED, record_batch, with_column, writing

    rows = []
    for written in conversations:
        name = _name(written.messages)
        turns = [Message(turn["role"], turn["content"]) for turn in written.messages]
        rows.append(Row(0, name, name, None, turns, written.answer, 1))
    with writing(path, TRAINED) as file:
        if rows:
            batch = with_column(record_batch(rows), [False] * len(rows), HELDOUT_COLUMN)
            file.write(with_column(batch, [written.unfinished for written in conversations], UNFINISHED))
