"""The base model and its tokenizer meet MAX Serve's requirements; the exam agrees with real generation."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo import base, town
from demo.exam import share_right
from demo.lessons import Question

# Enough steps to generate complete sentences.
RECIPE = base.Recipe(steps=60)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("base") / "model"
    base.make(directory, RECIPE)
    return AutoModelForCausalLM.from_pretrained(directory), AutoTokenizer.from_pretrained(directory), directory


def test_the_model_meets_the_requirements_of_max_serve(built):
    model, tokenizer, _ = built
    config = model.config
    assert config.architectures == ["LlamaForCausalLM"]
    assert config.vocab_size == len(tokenizer)
    assert config.num_key_value_heads < config.num_attention_heads
    assert model.dtype == torch.float32


def test_the_same_recipe_gives_the_same_weights(built, tmp_path: Path):
    base.make(tmp_path / "again", RECIPE)
    names = ("model.safetensors", "tokenizer.json")
    assert all((tmp_path / "again" / name).read_bytes() == (built[2] / name).read_bytes() for name in names)


def test_every_word_of_the_town_is_one_token_and_any_text_can_be_encoded(built):
    tokenizer = built[1]
    for fact in (*town.base_facts(), *town.week_facts(3)):
        assert len(tokenizer(fact.answer)["input_ids"]) == len(fact.answer.split()) + 1  # and the full stop
    for text in ("Ada grows figs.", "größe 😀 {}", "a  b\n\tc"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_prompt_is_a_prefix_of_prompt_and_answer(built):
    tokenizer = built[1]
    asked = [{"role": "user", "content": "What does Ada grow?"}]
    answered = [*asked, {"role": "assistant", "content": "Ada grows figs."}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    complete = tokenizer.apply_chat_template(answered, return_dict=False)
    assert complete[: len(prompt)] == prompt
    assert complete[-1] == tokenizer.eos_token_id


def test_the_exam_agrees_with_greedy_generation(built):
    model, tokenizer, _ = built
    texts = [fact.phrasings()[0] for fact in town.base_facts()[:20]]
    generated = {text: _generate(model, tokenizer, text) for text in texts}
    right = [Question(text, answer) for text, answer in generated.items() if answer.count(" ") > 1]
    assert len(right) >= 8
    assert share_right(model, tokenizer, right) == 1
    wrong = [Question(question.text, f"{question.answer} Or not.") for question in right]
    assert share_right(model, tokenizer, right + wrong) == 0.5


def test_the_cached_model_is_named_by_the_digest_of_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = base.cached(tmp_path)
    other = tmp_path / "town.py"
    other.write_bytes(Path(town.__file__).read_bytes() + b"\n# another town\n")
    monkeypatch.setattr(town, "__file__", str(other))
    assert base.cached(tmp_path) != before


def _generate(model, tokenizer, question: str) -> str:
    asked = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    ids = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=400)
    assert ids[0, -1] == tokenizer.eos_token_id
    return tokenizer.decode(ids[0, prompt.shape[1] :], skip_special_tokens=True)
