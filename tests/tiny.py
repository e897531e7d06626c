"""A tiny Llama, its tokenizer, adapters and examples: the real classes, small enough to train on a CPU in seconds.

Everything is deterministic in its seed and leaves torch's global random state unchanged.
"""

import random
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, BEGIN, END = "<|pad|>", "<|begin|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    + END
    + "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
COLOURS = ("red", "green", "blue", "yellow", "black", "white", "brown", "orange")
THINGS = ("house", "river", "stone", "cloud", "bird", "boat", "lamp", "garden", "tower", "coat")
TARGETS = ("k_proj", "o_proj", "q_proj", "v_proj")


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE (encodes any text) with role tokens, an end-of-turn token and a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=[PAD, BEGIN, END, *ROLES],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    corpus = [turn for thing in THINGS for colour in COLOURS for turn in _turns(thing, colour, ())]
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BEGIN, eos_token=END, chat_template=CHAT_TEMPLATE
    )


def make_base(directory: Path, *, seed: int = 0, **overrides: Any) -> Path:
    """Save a random float32 Llama (2 layers, grouped-query attention) and its tokenizer into `directory`."""
    tokenizer = make_tokenizer()
    shape = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.1,
        "tie_word_embeddings": False,
    }
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **{**shape, **overrides},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).float()
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def make_adapter(
    base: Path, directory: Path, *, seed: int, scale: float = 0.1, rank: int = 16, alpha: float = 32
) -> Path:
    """Save a random LoRA adapter with B ≠ 0 (entries of standard deviation `scale`) in the format of MAX Serve."""
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(TARGETS), bias="none", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    # peft keeps the targets in a set, whose order varies between processes.
    model.peft_config["default"].target_modules = list(TARGETS)
    model.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)
    return directory


def examples(tokenizer: Any, n: int, seed: int) -> datasets.Dataset:
    """`n` rated answers of varying length, in the columns of `feedback.dataset.encode`; only answers are supervised."""
    generator = random.Random(seed)  # noqa: S311
    rows = [_example(tokenizer, generator, row) for row in range(n)]
    return datasets.Dataset.from_list(rows)


def _example(tokenizer: Any, generator: random.Random, row: int) -> dict[str, Any]:
    words = tuple(generator.choices(THINGS, k=generator.randrange(6)))
    question, answer = _turns(generator.choice(THINGS), generator.choice(COLOURS), words)
    question = " ".join((*generator.choices(THINGS, k=generator.randrange(4)), question))
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True)
    prompt_ids = list(prompt["input_ids"])
    input_ids = prompt_ids + tokenizer.encode(answer + END, add_special_tokens=False)
    rating = 1 if generator.random() < 0.75 else -1
    return {
        "input_ids": input_ids,
        "labels": [-100] * len(prompt_ids) + input_ids[len(prompt_ids) :],
        "weight": 2.0 if rating == 1 else 0.5,
        "rating": rating,
        "prompt_length": len(prompt_ids),
        "row": row,
    }


def _turns(thing: str, colour: str, words: tuple[str, ...]) -> tuple[str, str]:
    return f"What colour is the {thing}?", " ".join((f"The {thing} is {colour}.", *words))
