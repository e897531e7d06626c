"""The expected answers of base model and adapters, computed with transformers and peft only."""

from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from learning_engine.records.probe import Probe

PROMPTS = [[{"role": "user", "content": f"What colour is the {thing}?"}] for thing in ("house", "river", "boat")]


def probes(base: Path, adapter: Path | None, *, tokens: int = 8) -> list[Probe]:
    """Greedy answers to PROMPTS with the adapter's weights (None: the base model's), as probes."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    if adapter:
        model = PeftModel.from_pretrained(model, adapter).eval()
    found = []
    for messages in PROMPTS:
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
        output = model.generate(**prompt, max_new_tokens=tokens, do_sample=False)
        ids = output[0, prompt["input_ids"].shape[1] :].tolist()
        found.append(Probe(messages, ids, tokenizer.decode(ids, skip_special_tokens=True), 1.0))
    return found
