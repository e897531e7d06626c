"""Encode a snapshot as training examples: token ids, with labels on the rated answer only."""

import bisect
import functools
import itertools
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import datasets
import jinja2
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from learning_engine.config import sections
from learning_engine.errors import DatasetError
from learning_engine.feedback.table import UNFINISHED

SCHEMA = pa.schema(
    [
        pa.field("input_ids", pa.list_(pa.int32())),
        pa.field("labels", pa.list_(pa.int32())),
        pa.field("weight", pa.float32()),
        pa.field("rating", pa.int8()),
        pa.field("prompt_length", pa.int32()),
        pa.field("row", pa.int32()),
    ]
)
IGNORED = -100
BATCH_ROWS = 512
# Matches an added token that is more than a word or white space (▁ stands for a space in some vocabularies).
MARKUP = re.compile(r"[^\w\s▁]")
RARE = "😀ꙮᚠ𓀀"


@dataclass(frozen=True)
class Encoded:
    """`examples` in snapshot order, memory-mapped from a file that has already been unlinked. Columns: `input_ids`,
    `labels` (−100 where not supervised), `weight`, `rating` (1, −1), `prompt_length` (tokens before the answer) and
    `row` (index in the snapshot). `dropped`: reason → number of rows."""

    examples: datasets.Dataset
    dropped: dict[str, int]


class Rated(NamedTuple):
    """A row of the snapshot, not yet encoded."""

    row: int
    messages: list[dict[str, str]]
    answer: str
    rating: int
    unfinished: bool


# A conversation's roles, each with a placeholder for its content: "", the leading white space character, or "x".
Skeleton = tuple[tuple[str, str], ...]


class Rendered(NamedTuple):
    rated: Rated
    prompt: str
    full: str
    skeleton: Skeleton


def encode(
    snapshot: Path,
    tokenizer: PreTrainedTokenizerBase,
    settings: sections.Dataset,
    *,
    heldout: bool | None,
    to_train: bool = False,
) -> Encoded:
    """Encode the rows of `snapshot` with the given `heldout` (None: all rows) through the tokenizer's chat template.

    The answer and its end of turn are supervised; of an unfinished answer (see `table.UNFINISHED`) no end is. If prompt
    and answer exceed `settings.max_tokens`, the oldest turns are left out whole; if the last one is still too long, its
    text loses its beginning. The system prompt is kept.
    Reasons to drop a row: `zero_weight` (only with `to_train`: rows that nobody trains on are still judged by);
    `template_refused`; `special_token` (the text contains control tokens and could forge turns, see `_Encoder`);
    `template_prefix` (the prompt's tokens are no prefix of the conversation's); `answer_truncated` (the answer alone
    does not fit); `prompt_too_long` (not even the system prompt fits).
    Raises DatasetError if the tokenizer has no chat template or no end-of-sequence token.
    """
    if not tokenizer.chat_template:
        raise DatasetError(
            f"Expected the tokenizer of {tokenizer.name_or_path!r} to have a chat template, found none: choose an "
            "instruct model as model.base, or put a chat_template.jinja next to its tokenizer."
        )
    if tokenizer.eos_token_id is None:
        raise DatasetError(
            f"Expected the tokenizer of {tokenizer.name_or_path!r} to have an end-of-sequence token, found none: "
            "set eos_token in its tokenizer_config.json."
        )
    encoder = _Encoder(tokenizer, settings, to_train=to_train)
    with tempfile.TemporaryDirectory(prefix="learning-engine-") as directory:
        path = f"{directory}/examples.arrow"
        with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, SCHEMA) as stream:
            for rows in _rows(snapshot, heldout):
                stream.write_batch(pa.RecordBatch.from_pylist(list(encoder.examples(rows)), schema=SCHEMA))
        table = pa.ipc.open_stream(pa.memory_map(path)).read_all()
    # Without a fingerprint, datasets would pickle the whole table to compute one.
    examples = datasets.Dataset(table, fingerprint=uuid4().hex)
    return Encoded(examples, dict(sorted(encoder.dropped.items())))


def _rows(snapshot: Path, heldout: bool | None) -> Iterator[list[Rated]]:
    index = 0
    with pq.ParquetFile(snapshot) as file:
        columns = ["messages", "answer", "rating", "heldout", UNFINISHED.name]
        stored = [name for name in columns if name in file.schema_arrow.names]
        for batch in file.iter_batches(BATCH_ROWS, columns=stored):
            records = enumerate(batch.to_pylist(), start=index)
            index += batch.num_rows
            yield [
                Rated(row, record["messages"], record["answer"], record["rating"], record.get(UNFINISHED.name, False))
                for row, record in records
                if heldout is None or record["heldout"] is heldout
            ]


class _Encoder:
    """Turns rows into examples and counts the dropped ones by reason.

    Control tokens are the special tokens, and other added tokens that the template writes, such as `<｜User｜>`. They
    are counted among the token ids, not searched for in the text, because a tokenizer that normalises also reads
    `<|END|>` as `<|end|>`. A row is dropped if it has more of any than the same conversation with each text set to "x".
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: sections.Dataset, *, to_train: bool) -> None:
        self.tokenizer, self.to_train = tokenizer, to_train
        self.max_tokens = settings.max_tokens
        self.weights = {1: settings.weight_up, -1: settings.weight_down}
        added = tokenizer.added_tokens_decoder.items()
        self.special_ids = {key for key, token in added if token.special}
        # The unknown token, which stands for characters missing from the vocabulary, cannot forge a turn.
        unknown = {tokenizer.unk_token_id} & set(*self._tokenize([RARE]))
        self.control_ids = self.special_ids - unknown
        self.markup_ids = {key for key, token in added if MARKUP.search(token.content)} - unknown
        self.template_tokens = functools.lru_cache(maxsize=1024)(self._template_tokens)
        self.dropped: Counter[str] = Counter()

    def examples(self, rows: list[Rated]) -> Iterator[dict[str, Any]]:
        rendered = [render for rated in rows if (render := self._render(rated))]
        if not rendered:
            return
        prompts = self._tokenize([render.prompt for render in rendered])
        fulls = self._tokenize([render.full for render in rendered])
        for render, prompt, full in zip(rendered, prompts, fulls, strict=True):
            if self._has_forged_tokens(full, self.template_tokens(render.skeleton)):
                self.dropped["special_token"] += 1
                continue
            if full[: len(prompt)] != prompt:
                self.dropped["template_prefix"] += 1
                continue
            answer = self._with_end_of_turn(full[len(prompt) :])
            if render.rated.unfinished:
                answer.pop()
            if len(answer) >= self.max_tokens:
                self.dropped["answer_truncated"] += 1
                continue
            room = self.max_tokens - len(answer)
            if len(prompt) > room:
                shortened = self._shortened(render.rated.messages, room)
                if shortened is None:
                    self.dropped["prompt_too_long"] += 1
                    continue
                prompt = shortened
            yield self._example(render.rated, prompt, answer)

    def _render(self, rated: Rated) -> Rendered | None:
        if self.to_train and not self.weights[rated.rating]:
            self.dropped["zero_weight"] += 1
            return None
        conversation = [*rated.messages, {"role": "assistant", "content": rated.answer}]
        skeleton = tuple(
            (message["role"], "x" if message["content"].strip() else message["content"][:1]) for message in conversation
        )
        try:
            prompt = self.tokenizer.apply_chat_template(rated.messages, tokenize=False, add_generation_prompt=True)
            full = self.tokenizer.apply_chat_template(conversation, tokenize=False)
            self.template_tokens(skeleton)
        except (jinja2.TemplateError, TypeError, ValueError):
            self.dropped["template_refused"] += 1
            return None
        return Rendered(rated, prompt, full, skeleton)

    def _template_tokens(self, skeleton: Skeleton) -> Counter[int]:
        """How often the template itself writes each control token in a conversation with these roles."""
        conversation = [{"role": role, "content": content} for role, content in skeleton]
        (ids,) = self._tokenize([self.tokenizer.apply_chat_template(conversation, tokenize=False)])
        return Counter(filter((self.control_ids | self.markup_ids).__contains__, ids))

    def _has_forged_tokens(self, full: list[int], expected: Counter[int]) -> bool:
        found = Counter(filter((self.control_ids | expected.keys()).__contains__, full))
        return not found <= expected

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        encoded = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _with_end_of_turn(self, answer: list[int]) -> list[int]:
        """Cut after the last special token if only white space follows it; otherwise append end-of-sequence."""
        last = max((at for at, token in enumerate(answer) if token in self.special_ids), default=None)
        if last is not None and not self.tokenizer.decode(answer[last + 1 :]).strip():
            return answer[: last + 1]
        return [*answer, self.tokenizer.eos_token_id]

    def _shortened(self, messages: list[dict[str, str]], room: int) -> list[int] | None:
        """The tokens of the prompt without its oldest turns, and if need be without the beginning of its last text.

        At most `room` tokens; None if the template cannot render such a prompt.
        """
        system = list(itertools.takewhile(lambda message: message["role"] == "system", messages))
        turns = messages[len(system) :]
        starts = [at for at, message in enumerate(turns) if message["role"] == "user"] or [0]
        *before, last = turns[starts[-1] :]

        def later(start: int) -> list[int]:
            return self._prompt([*system, *turns[start:]])

        def cut(characters: int) -> list[int]:
            return self._prompt([*system, *before, {**last, "content": last["content"][characters:]}])

        try:
            first = bisect.bisect_left(starts, True, key=lambda start: len(later(start)) <= room)
            if first < len(starts):
                return later(starts[first])
            characters = range(len(last["content"]))
            prompt = cut(bisect.bisect_left(characters, True, key=lambda count: len(cut(count)) <= room))
            return prompt if len(prompt) <= room else None
        except (jinja2.TemplateError, TypeError, ValueError):
            return None

    def _prompt(self, messages: list[dict[str, str]]) -> list[int]:
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return self._tokenize([text])[0]

    def _example(self, rated: Rated, prompt: list[int], answer: list[int]) -> dict[str, Any]:
        return {
            "input_ids": prompt + answer,
            "labels": [IGNORED] * len(prompt) + answer,
            "weight": self.weights[rated.rating],
            "rating": rated.rating,
            "prompt_length": len(prompt),
            "row": rated.row,
        }
