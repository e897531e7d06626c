"""Training examples: only the rated answer and its end of turn are supervised."""

import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import config as datasets_config

from learning_engine.config.sections import Dataset
from learning_engine.errors import DatasetError
from learning_engine.feedback.clean import digest
from learning_engine.feedback.dataset import IGNORED, Encoded, encode
from learning_engine.feedback.table import SCHEMA
from tests.tiny import make_tokenizer

CHATML = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def shared() -> Any:
    return make_tokenizer()


@pytest.fixture
def tokenizer(shared: Any) -> Any:
    return pickle.loads(pickle.dumps(shared))  # noqa: S301


def one(
    prompt: Any = "What colour is the bird?", answer: str = "The bird is blue.", rating: int = 1, **more: Any
) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return {"messages": messages, "answer": answer, "rating": rating, "heldout": False, "user": None} | more


def write(path: Path, *rows: dict[str, Any]) -> Path:
    start = datetime(2026, 1, 5, tzinfo=UTC)
    keys = {"message": digest("m"), "conversation": digest("c")}
    records = [{"created_at": start + timedelta(seconds=i), **keys, **row} for i, row in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(records, schema=SCHEMA), path)
    return path


def encoded(
    tmp_path: Path,
    tokenizer: Any,
    *rows: dict[str, Any],
    heldout: bool | None = None,
    to_train: bool = False,
    **settings: Any,
) -> Encoded:
    snapshot = write(tmp_path / "s.parquet", *rows)
    return encode(snapshot, tokenizer, Dataset(**settings), heldout=heldout, to_train=to_train)


def supervised(tokenizer: Any, example: dict[str, Any]) -> str:
    text: str = tokenizer.decode([label for label in example["labels"] if label != IGNORED])
    return text


def test_the_answer_and_its_end_of_turn_are_supervised_and_nothing_else(tmp_path: Path, tokenizer: Any) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What colour is the bird?"},
        {"role": "assistant", "content": "Which bird?"},
        {"role": "user", "content": "The bird."},
    ]
    result = encoded(tmp_path, tokenizer, one(turns))
    (example,) = result.examples
    assert result.dropped == {}
    conversation = [*turns, {"role": "assistant", "content": "The bird is blue."}]
    assert tokenizer.decode(example["input_ids"]) == tokenizer.apply_chat_template(conversation, tokenize=False)
    assert supervised(tokenizer, example) == "The bird is blue.<|end|>"
    length = example["prompt_length"]
    assert example["labels"] == [IGNORED] * length + example["input_ids"][length:]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    assert example["input_ids"][:length] == list(prompt)


def test_weights_ratings_and_rows(tmp_path: Path, tokenizer: Any) -> None:
    rows = [one(rating=1), one(rating=-1, answer="The bird is red."), one(rating=1, answer="Blue.")]
    examples = encoded(tmp_path, tokenizer, *rows, weight_up=1.5).examples
    assert [(example["weight"], example["rating"], example["row"]) for example in examples] == [
        (1.5, 1, 0),
        (0.5, -1, 1),
        (1.5, 1, 2),
    ]
    assert examples.column_names == ["input_ids", "labels", "weight", "rating", "prompt_length", "row"]


def test_rows_of_weight_zero_are_dropped_where_they_would_be_trained_on(tmp_path: Path, tokenizer: Any) -> None:
    rows = one(), one(rating=-1), one()
    result = encoded(tmp_path, tokenizer, *rows, weight_down=0, to_train=True)
    assert result.dropped == {"zero_weight": 1}
    assert result.examples["row"][:] == [0, 2]
    none_left = encoded(tmp_path, tokenizer, one(rating=-1), weight_down=0, to_train=True)
    assert (len(none_left.examples), none_left.dropped) == (0, {"zero_weight": 1})
    to_judge = encoded(tmp_path, tokenizer, *rows, weight_down=0)
    assert (to_judge.dropped, to_judge.examples["weight"][:]) == ({}, [2, 0, 2])


@pytest.mark.parametrize(("heldout", "rows"), [(True, [1, 3]), (False, [0, 2]), (None, [0, 1, 2, 3])])
def test_held_out_rows_are_selected_or_left_out(
    tmp_path: Path, tokenizer: Any, heldout: bool | None, rows: list[int]
) -> None:
    many = [one(heldout=bool(i % 2), rating=1) for i in range(4)]
    assert encoded(tmp_path, tokenizer, *many, heldout=heldout).examples["row"][:] == rows


def test_white_space_after_the_end_of_turn_is_not_supervised(tmp_path: Path, tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML
    (example,) = encoded(tmp_path, tokenizer, one()).examples
    assert supervised(tokenizer, example) == "The bird is blue.<|end|>"
    assert tokenizer.decode(example["input_ids"]).endswith("<|assistant|>\nThe bird is blue.<|end|>")


def test_a_template_without_end_of_turn_gets_the_end_of_sequence(tmp_path: Path, tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML.replace("<|end|>", "")
    (example,) = encoded(tmp_path, tokenizer, one(answer="Blue.\n")).examples
    assert supervised(tokenizer, example) == "Blue.\n\n<|end|>"


def test_a_long_message_loses_its_beginning_within_its_turn(tmp_path: Path, tokenizer: Any) -> None:
    question = " ".join(f"bird {i}" for i in range(200))
    (example,) = encoded(tmp_path, tokenizer, one(question), max_tokens=64).examples
    assert 60 < len(example["input_ids"]) == len(example["labels"]) <= 64
    assert supervised(tokenizer, example) == "The bird is blue.<|end|>"
    text = tokenizer.decode(example["input_ids"])
    assert text.startswith("<|begin|><|user|>")
    assert "bird 199<|end|><|assistant|>The bird is blue.<|end|>" in text
    assert "bird 0" not in text


def test_a_long_conversation_loses_its_oldest_turns_and_keeps_its_system_prompt(tmp_path: Path, tokenizer: Any) -> None:
    system = {"role": "system", "content": "Be brief."}
    turns = [{"role": role, "content": f"bird {i}"} for i in range(30) for role in ("user", "assistant")]
    last = {"role": "user", "content": "What colour is the bird?"}
    whole = [system, *turns, last]
    (example,) = encoded(tmp_path, tokenizer, one(whole), max_tokens=64).examples
    text = tokenizer.decode(example["input_ids"])
    kept = text.count("<|user|>")
    assert 1 < kept < 31
    shown = tokenizer.apply_chat_template([system, *turns[-2 * (kept - 1) :], last], tokenize=False)
    assert text.startswith(shown), "a shorter conversation, as the template writes it"
    assert len(example["input_ids"]) <= 64
    longer = (
        tokenizer.apply_chat_template([system, *turns[-2 * kept :], last], tokenize=False) + "The bird is blue.<|end|>"
    )
    assert len(tokenizer.encode(longer, add_special_tokens=False)) > 64, "as many turns as fit"


def test_a_row_whose_answer_or_system_prompt_does_not_fit_is_dropped(tmp_path: Path, tokenizer: Any) -> None:
    long = "The bird is blue, the house is red."
    length = len(tokenizer.encode(long + "<|end|>", add_special_tokens=False))
    assert length >= 8
    assert encoded(tmp_path, tokenizer, one(answer=long), max_tokens=length).dropped == {"answer_truncated": 1}
    assert encoded(tmp_path, tokenizer, one(answer=long), max_tokens=length + 1).dropped == {"prompt_too_long": 1}
    assert encoded(tmp_path, tokenizer, one(answer="bird " * 5000)).dropped == {"answer_truncated": 1}
    prompt = [{"role": "system", "content": "bird " * 100}, {"role": "user", "content": "What colour is the bird?"}]
    assert encoded(tmp_path, tokenizer, one(prompt), max_tokens=64).dropped == {"prompt_too_long": 1}


def test_a_prompt_that_is_not_a_prefix_of_the_conversation_is_dropped(tmp_path: Path, tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ messages | length }}" + CHATML
    result = encoded(tmp_path, tokenizer, one(), one())
    assert result.dropped == {"template_prefix": 2}
    assert len(result.examples) == 0
    assert result.examples.column_names[0] == "input_ids"


def test_a_row_with_a_token_across_prompt_and_answer_is_dropped(tmp_path: Path, tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    )
    result = encoded(tmp_path, tokenizer, one("What colo", "ur is the bird?"), one("What colour", " is the bird?"))
    assert result.dropped == {"template_prefix": 1}
    assert result.examples["row"][:] == [1]


def test_a_conversation_that_the_template_refuses_is_dropped(tmp_path: Path, tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system prompts') }}{% endif %}" + CHATML
    )
    system = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    result = encoded(tmp_path, tokenizer, one(system), one())
    assert result.dropped == {"template_refused": 1}
    assert result.examples["row"][:] == [1]


def test_a_tokenizer_without_a_template_says_what_to_do(tmp_path: Path, tokenizer: Any) -> None:
    tokenizer.chat_template = None
    with pytest.raises(DatasetError, match=r"chat template, found none: choose an instruct model"):
        encoded(tmp_path, tokenizer, one())


def test_a_tokenizer_without_an_end_of_sequence_says_what_to_do(tmp_path: Path, tokenizer: Any) -> None:
    tokenizer.eos_token = None
    with pytest.raises(DatasetError, match="eos_token"):
        encoded(tmp_path, tokenizer, one())


def test_an_empty_snapshot_has_no_examples(tmp_path: Path, tokenizer: Any) -> None:
    assert len(encoded(tmp_path, tokenizer).examples) == 0


def test_more_rows_than_a_batch_keep_their_order(tmp_path: Path, tokenizer: Any) -> None:
    rows = [one(f"What colour is bird {i}?", f"Bird {i} is blue.", heldout=i % 3 == 0) for i in range(1300)]
    examples = encoded(tmp_path, tokenizer, *rows, heldout=False).examples
    assert examples["row"][:] == [i for i in range(1300) if i % 3]
    for example in examples.select([0, 400, 865]):
        assert supervised(tokenizer, example) == f"Bird {example['row']} is blue.<|end|>"


def test_no_files_are_left_on_the_disk_and_the_examples_stay_usable(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    cache = Path(datasets_config.HF_DATASETS_CACHE)
    before = set(cache.rglob("*"))
    examples = encoded(tmp_path, tokenizer, *[one()] * 10).examples
    assert list(temporary.iterdir()) == []
    derived = examples.map(lambda example: {"length": len(example["labels"])}).shuffle(seed=1).select([3, 1])
    assert len(pickle.loads(pickle.dumps(examples))) == 10  # noqa: S301
    assert derived["length"][:] == [len(labels) for labels in derived["labels"][:]]
    assert set(cache.rglob("*")) == before
    (tmp_path / "s.parquet").write_bytes(b"no Parquet")
    with pytest.raises(pa.ArrowInvalid):
        encode(tmp_path / "s.parquet", tokenizer, Dataset(), heldout=None)
    assert [path for path in temporary.iterdir() if path.name.startswith("learning-engine")] == []
