"""A snapshot as training examples: token ids with labels on the rated answer alone."""

import functools
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
# What an added token holds that is neither a word nor a run of white space (▁ stands for a space in some vocabularies).
MARKUP = re.compile(r"[^\w\s▁]")
RARE = "😀ꙮᚠ𓀀"


@dataclass(frozen=True)
class Encoded:
    """`examples` in the order of the snapshot, memory-mapped from a file that has no name any more; columns
    `input_ids`, `labels` (−100 where not supervised), `weight`, `rating` (1, −1), `prompt_length` (tokens before the
    answer) and `row` (its index in the snapshot). `dropped`: reason → rows."""

    examples: datasets.Dataset
    dropped: dict[str, int]


class Rated(NamedTuple):
    """A row of the snapshot on its way."""

    row: int
    messages: list[dict[str, str]]
    answer: str
    rating: int


# The roles of a conversation with what the template may look at of each content: "", " " or "x".
Skeleton = tuple[tuple[str, str], ...]


class Rendered(NamedTuple):
    rated: Rated
    prompt: str
    full: str
    skeleton: Skeleton


def encode(
    snapshot: Path, tokenizer: PreTrainedTokenizerBase, settings: sections.Dataset, *, heldout: bool | None
) -> Encoded:
    """Encode the rows of `snapshot` whose `heldout` is as given (None: all) with the tokenizer's chat template.

    Supervised are the answer and its end of turn. A prompt that does not fit into `settings.max_tokens` loses its
    beginning (but not its first token, where that begins the sequence). Dropped are `zero_weight`; `template_refused`;
    `special_token` (the texts add control tokens to the template's own, which would forge turns: see `_Encoder`);
    `template_prefix` (the tokens of the prompt do not begin those of prompt and answer); `answer_truncated` (the answer
    alone does not fit). Raises DatasetError where the tokenizer has no chat template or no end-of-sequence token.
    """
    if not tokenizer.chat_template:
        raise DatasetError(
            f"Expected the tokenizer of {tokenizer.name_or_path!r} to have a chat template, found none: choose an "
            "instruct model as model.base, or put a chat_template.jinja beside its tokenizer."
        )
    if tokenizer.eos_token_id is None:
        raise DatasetError(
            f"Expected the tokenizer of {tokenizer.name_or_path!r} to have an end-of-sequence token, found none: "
            "set eos_token in its tokenizer_config.json."
        )
    encoder = _Encoder(tokenizer, settings)
    with tempfile.TemporaryDirectory(prefix="learning-engine-") as directory:
        path = f"{directory}/examples.arrow"
        with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, SCHEMA) as stream:
            for rows in _rows(snapshot, heldout):
                stream.write_batch(pa.RecordBatch.from_pylist(list(encoder.examples(rows)), schema=SCHEMA))
        table = pa.ipc.open_stream(pa.memory_map(path)).read_all()
    # Without a fingerprint given, datasets would pickle the whole table for one.
    examples = datasets.Dataset(table, fingerprint=uuid4().hex)
    return Encoded(examples, dict(sorted(encoder.dropped.items())))


def _rows(snapshot: Path, heldout: bool | None) -> Iterator[list[Rated]]:
    index = 0
    with pq.ParquetFile(snapshot) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=["messages", "answer", "rating", "heldout"]):
            records = enumerate(batch.to_pylist(), start=index)
            index += batch.num_rows
            yield [
                Rated(row, record["messages"], record["answer"], record["rating"])
                for row, record in records
                if heldout is None or record["heldout"] is heldout
            ]


class _Encoder:
    """Rows into examples, and why not.

    Control tokens are the special ones, and other added ones that the template writes, such as `<｜User｜>`. They are
    counted in the tokens, not looked for in the text: a tokenizer that normalises reads `<|END|>` as `<|end|>`, too. No
    row may have more of one than the same conversation with "x" in place of each text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: sections.Dataset) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = settings.max_tokens
        self.weights = {1: settings.weight_up, -1: settings.weight_down}
        added = tokenizer.added_tokens_decoder.items()
        self.special_ids = {key for key, token in added if token.special}
        # A tokenizer that lacks characters gives its unknown token for them, which forges nothing.
        unknown = {tokenizer.unk_token_id} & set(*self._tokenize([RARE]))
        self.control_ids = self.special_ids - unknown
        self.markup_ids = {key for key, token in added if MARKUP.search(token.content)} - unknown
        self.own = functools.lru_cache(maxsize=1024)(self._own)
        self.dropped: Counter[str] = Counter()

    def examples(self, rows: list[Rated]) -> Iterator[dict[str, Any]]:
        rendered = [render for rated in rows if (render := self._render(rated))]
        if not rendered:
            return
        prompts = self._tokenize([render.prompt for render in rendered])
        fulls = self._tokenize([render.full for render in rendered])
        for render, prompt, full in zip(rendered, prompts, fulls, strict=True):
            if self._forged(full, self.own(render.skeleton)):
                self.dropped["special_token"] += 1
                continue
            if full[: len(prompt)] != prompt:
                self.dropped["template_prefix"] += 1
                continue
            answer = self._with_end_of_turn(full[len(prompt) :])
            if len(answer) >= self.max_tokens:
                self.dropped["answer_truncated"] += 1
                continue
            yield self._example(render.rated, self._fitted(prompt, self.max_tokens - len(answer)), answer)

    def _render(self, rated: Rated) -> Rendered | None:
        if not self.weights[rated.rating]:
            self.dropped["zero_weight"] += 1
            return None
        whole = [*rated.messages, {"role": "assistant", "content": rated.answer}]
        skeleton = tuple((said["role"], "x" if said["content"].strip() else said["content"][:1]) for said in whole)
        try:
            prompt = self.tokenizer.apply_chat_template(rated.messages, tokenize=False, add_generation_prompt=True)
            full = self.tokenizer.apply_chat_template(whole, tokenize=False)
            self.own(skeleton)
        except (jinja2.TemplateError, TypeError, ValueError):
            self.dropped["template_refused"] += 1
            return None
        return Rendered(rated, prompt, full, skeleton)

    def _own(self, skeleton: Skeleton) -> Counter[int]:
        """How often the template itself gives which control token in a conversation of these roles."""
        whole = [{"role": role, "content": content} for role, content in skeleton]
        (ids,) = self._tokenize([self.tokenizer.apply_chat_template(whole, tokenize=False)])
        return Counter(filter((self.control_ids | self.markup_ids).__contains__, ids))

    def _forged(self, full: list[int], own: Counter[int]) -> bool:
        found = Counter(filter((self.control_ids | own.keys()).__contains__, full))
        return not found <= own

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        encoded = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _with_end_of_turn(self, answer: list[int]) -> list[int]:
        """Up to the template's last special token, if only white space follows it; else with end-of-sequence added."""
        last = max((at for at, token in enumerate(answer) if token in self.special_ids), default=None)
        if last is not None and not self.tokenizer.decode(answer[last + 1 :]).strip():
            return answer[: last + 1]
        return [*answer, self.tokenizer.eos_token_id]

    def _fitted(self, prompt: list[int], room: int) -> list[int]:
        if len(prompt) <= room:
            return prompt
        if prompt[0] == self.tokenizer.bos_token_id:
            return prompt[:1] + prompt[len(prompt) - room + 1 :]
        return prompt[-room:]

    def _example(self, rated: Rated, prompt: list[int], answer: list[int]) -> dict[str, Any]:
        return {
            "input_ids": prompt + answer,
            "labels": [IGNORED] * len(prompt) + answer,
            "weight": self.weights[rated.rating],
            "rating": rated.rating,
            "prompt_length": len(prompt),
            "row": rated.row,
        }
