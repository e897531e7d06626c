"""A base model and two adapters trained on one lesson each: a first version, and its child."""

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from learning_engine.config import sections
from learning_engine.evaluation.prompts import Messages, render
from learning_engine.evaluation.views import Views, load_views
from learning_engine.learning import model as models
from tests import tiny

LORA = sections.Lora(dropout=0.0)
FIRST = {"house": "red", "river": "blue", "stone": "black", "cloud": "white"}
SECOND = {"bird": "brown", "boat": "green", "lamp": "yellow", "garden": "orange"}


def ask(thing: str) -> Messages:
    return [{"role": "user", "content": f"What colour is the {thing}?"}]


def encode(tokenizer: Any, lesson: dict[str, str], *, rating: int = 1) -> datasets.Dataset:
    """The lesson's answers in the columns of `feedback.dataset.encode`."""
    sentences = {thing: f"The {thing} is {colour}." for thing, colour in lesson.items()}
    return encode_answers(tokenizer, sentences, rating=rating)


def encode_answers(tokenizer: Any, answers: dict[str, str], *, rating: int = 1) -> datasets.Dataset:
    rows = []
    for thing, text in answers.items():
        prompt = render(tokenizer, ask(thing))
        answer = tokenizer.encode(text + tiny.END, add_special_tokens=False)
        rows.append(
            {
                "input_ids": prompt + answer,
                "labels": [-100] * len(prompt) + answer,
                "weight": 2.0,
                "rating": rating,
                "prompt_length": len(prompt),
                "row": len(rows),
            }
        )
    return datasets.Dataset.from_list(rows)


def teach(model: sections.Model, examples: datasets.Dataset, directory: Path, *, start: Path | None = None) -> Path:
    """Train an adapter on the examples, starting from the adapter in `start`."""
    loaded = models.load(model, LORA, adapter=start, trainable=True, seed=3)
    optimizer = torch.optim.AdamW(models.lora_weights(loaded.model).values(), lr=1e-2)
    for _ in range(60):
        for row in examples:
            ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
            loaded.model(input_ids=ids, labels=labels).loss.div(len(examples)).backward()
        optimizer.step()
        optimizer.zero_grad()
    models.save_adapter(loaded, directory)
    return directory


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> sections.Model:
    torch.set_num_threads(1)
    base = tiny.make_base(tmp_path_factory.mktemp("base"), initializer_range=0.2)
    return sections.Model(base=str(base), device="cpu")


@pytest.fixture(scope="session")
def parent(model: sections.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teach(model, encode(models.load_tokenizer(model), FIRST), tmp_path_factory.mktemp("parent"))


@pytest.fixture(scope="session")
def candidate(model: sections.Model, parent: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    examples = encode(models.load_tokenizer(model), SECOND)
    return teach(model, examples, tmp_path_factory.mktemp("candidate"), start=parent)


@pytest.fixture(scope="session")
def views(model: sections.Model, candidate: Path, parent: Path) -> Views:
    return load_views(model, LORA, candidate=candidate, parent=parent)


@pytest.fixture(scope="session")
def first(model: sections.Model, parent: Path) -> Views:
    """The first version, which has no parent."""
    return load_views(model, LORA, candidate=parent, parent=None)


@pytest.fixture(scope="session")
def unchanged(model: sections.Model, parent: Path) -> Views:
    """A candidate equal to its parent."""
    return load_views(model, LORA, candidate=parent, parent=parent)


@pytest.fixture(scope="session")
def separate(model: sections.Model, candidate: Path, parent: Path) -> dict[str, Any]:
    """Each view as a separate model, loaded with peft and transformers only."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    def load() -> Any:
        return AutoModelForCausalLM.from_pretrained(model.base, dtype=torch.float32)

    return {
        "candidate": PeftModel.from_pretrained(load(), candidate).eval(),
        "parent": PeftModel.from_pretrained(load(), parent).eval(),
        "base": load().eval(),
    }
