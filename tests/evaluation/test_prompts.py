"""Prompts from a configured file or the built-in list."""

from pathlib import Path

import pytest

from learning_engine.errors import ConfigError
from learning_engine.evaluation.prompts import read, render, renderable
from tests import tiny


def test_the_built_in_list_is_readable_and_can_be_limited() -> None:
    prompts = read(None, limit=1000)
    assert len(prompts) == 200
    assert len({str(prompt) for prompt in prompts}) == 200
    assert all(prompt[-1]["role"] == "user" for prompt in prompts)
    assert read(None, limit=5) == prompts[:5]


def test_every_line_format_is_read(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(
        '{"prompt": "one"}\n\n{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "two"}]}\n'
        'three, "quoted"\n"four"\n5\n"six" is quoted\n',
        encoding="utf-8",
    )
    prompts = read(str(file), limit=10)
    contents = ["one", "two", 'three, "quoted"', "four", "5", '"six" is quoted']
    assert [prompt[-1]["content"] for prompt in prompts] == contents
    assert prompts[1][0] == {"role": "system", "content": "s"}


@pytest.mark.parametrize(
    "line", ['{"prompt": 3}', '{"messages": []}', '{"messages": [{"role": "user"}]}', "{broken", '{"other": "x"}']
)
def test_an_invalid_line_is_named_by_number_without_its_text(tmp_path: Path, line: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(f"fine\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line 2 of .*prompts\.jsonl") as caught:
        read(str(file), limit=10)
    assert line not in str(caught.value)


def test_a_file_without_prompts_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    for name in ("empty", "binary", "absent"):
        with pytest.raises(ConfigError, match=f"{name}.jsonl"):
            read(str(tmp_path / f"{name}.jsonl"), limit=10)


def test_a_rendered_prompt_ends_where_the_answer_begins() -> None:
    tokenizer = tiny.make_tokenizer()
    ids = render(tokenizer, [{"role": "user", "content": "What colour is the house?"}])
    assert tokenizer.decode(ids) == "<|begin|><|user|>What colour is the house?<|end|><|assistant|>"


def test_prompts_that_the_template_rejects_are_left_out() -> None:
    tokenizer, prompts = tiny.make_tokenizer(), read(None, limit=1000)
    assert renderable(tokenizer, prompts) == prompts
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system prompt') }}{% endif %}"
    tokenizer.chat_template = refusal + tiny.CHAT_TEMPLATE
    system = [prompt for prompt in prompts if prompt[0]["role"] == "system"]
    assert system
    assert renderable(tokenizer, prompts) == [prompt for prompt in prompts if prompt not in system]
    with pytest.raises(ConfigError, match=f"found none among {len(system)}"):
        renderable(tokenizer, system)
