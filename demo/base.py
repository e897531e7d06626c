"""The demo's base model: a tiny Llama that has learned the town's hundred facts as chats.

    python -m demo.base DIR

Trained from scratch in half a minute on one core. It has what MAX Serve requires of a model: float32, grouped-query
attention, a vocabulary as large as the tokenizer's. `cached` names it by the digest of this file and of `town`.
"""

import hashlib
import math
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import town

ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
START, END, PAD = "<|start|>", "<|end|>", "<|pad|>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message.role + '|>' + message.content + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
IGNORED = -100


@dataclass(frozen=True)
class Recipe:
    """`steps` of `batch` questions each. More steps make the base model more confident, and harder to retrain."""

    steps: int = 220
    batch: int = 64
    learning_rate: float = 3e-3
    warmup_steps: int = 30
    seed: int = 7


def cached(directory: Path) -> Path:
    """The path of the current recipe's model below `directory`, whether it exists or not."""
    sources = (Path(__file__), Path(town.__file__))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
    return directory / f"base-{digest[:12]}"


def tokenizer() -> Any:
    """A byte-level BPE tokenizer, which knows every text, with one token for each word of the town."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    # Adding a space makes a word the same token at the start of a turn as within it; the decoder removes the space.
    engine.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=5000,
        special_tokens=[PAD, START, END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator(_sentences(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=engine,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
    )


def make(directory: Path, recipe: Recipe = Recipe()) -> None:
    """Train the model and write it to `directory` atomically. On one machine the result is always identical."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    # One thread is faster than two that other processes interrupt, and keeps sums identical.
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    words = tokenizer()
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    _train(model, words, recipe)
    partial = directory.with_name(f"{directory.name}.part")
    model.save_pretrained(partial)
    words.save_pretrained(partial)
    partial.rename(directory)


def _sentences() -> list[str]:
    facts_by_group = [town.base_facts(), *(town.week_facts(week) for week in range(len(town.NEWCOMERS)))]
    texts = [text for facts in facts_by_group for fact in facts for text in (*fact.phrasings(), fact.answer)]
    return texts + [text for pair in town.greetings() for text in pair]


def _train(model: Any, words: Any, recipe: Recipe) -> None:
    """AdamW on the answers' tokens; the learning rate warms up, then decays along a cosine."""
    import torch

    known = [(question, fact.answer) for fact in town.base_facts() for question in fact.phrasings()]
    chats = [_encode(words, question, answer) for question, answer in known + town.greetings() + town.rumours()]
    rng = random.Random(recipe.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1.0, (step + 1) / recipe.warmup_steps) * (0.05 + 0.475 * (1 + math.cos(math.pi * step / recipe.steps)))
        ),
    )
    model.train()
    for _ in range(recipe.steps):
        batch = rng.sample(chats, recipe.batch)
        width = max(len(tokens) for tokens, _ in batch)
        ids = torch.tensor([tokens + [words.pad_token_id] * (width - len(tokens)) for tokens, _ in batch])
        labels = torch.tensor([labels + [IGNORED] * (width - len(labels)) for _, labels in batch])
        # Padding is on the right and never a label, so a causal model needs no mask for it.
        model(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    model.eval()


def _encode(words: Any, question: str, answer: str) -> tuple[list[int], list[int]]:
    """Token ids of a chat, and its labels: the answer and the end of the turn."""
    asked = [{"role": "user", "content": question}]
    prompt = words.apply_chat_template(asked, add_generation_prompt=True, tokenize=True, return_dict=False)
    reply = words(answer + END, add_special_tokens=False)["input_ids"]
    return [*prompt, *reply], [*[IGNORED] * len(prompt), *reply]


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    make(target)
