"""The expected answers of base model and adapters, computed with transformers and peft only."""

from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from learning_engine.records.probe import Probe

PROMPTS = [[{"role": "user", "content": f"What colour is the {thing}?"}] for thing in ("house", "river", "boat")]


def probes(
    base: Path, adapter: Path | None, *, prompts: list[list[dict[str, str]]] = PROMPTS, tokens: int = 8
) -> list[Probe]:
    """Greedy answers with the adapter's weights (None: the base model's); `margin` is the smallest over the tokens."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    if adapter:
        model = PeftModel.from_pretrained(model, adapter).eval()
    found = []
    for messages in prompts:
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
        output = model.generate(
            **prompt, max_new_tokens=tokens, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        best = torch.stack(output.logits).topk(2, dim=-1).values
        ids = output.sequences[0, prompt["input_ids"].shape[1] :].tolist()
        text = tokenizer.decode(ids, skip_special_tokens=True)
        found.append(Probe(messages, ids, text, float((best[..., 0] - best[..., 1]).min())))
    return found
