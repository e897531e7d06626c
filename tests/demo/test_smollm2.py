"""The converted SmolLM2 loads as any model does, answers in its chat template, and ends its turn."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo import smollm2
from include.setup.packages import SetupError
from tests.programs import missing

pytestmark = pytest.mark.real


def test_the_converted_model_chats():
    try:
        directory = smollm2.ready()
    except SetupError as error:
        missing(f"{smollm2.GGUF.name} is missing: {error}")
    model = AutoModelForCausalLM.from_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert model.dtype == torch.float32
    assert model.config.vocab_size == len(tokenizer)
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    ids = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=24)
    answer = tokenizer.decode(ids[0, prompt.shape[1] :])
    assert "Paris" in answer
    assert answer.endswith(tokenizer.eos_token)
