"""The exam: the share of questions that a model answers right with greedy decoding.

    python -m demo.exam matrix.json MODEL FIRST_MONDAY BUCKET

examines the base model MODEL, one of `worlds.WORLDS`, and every version in a copy of the bucket, with the environment's
configuration.
"""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from demo.lessons import Question, Week
from demo.worlds import WORLDS
from learning_engine import archive, config
from learning_engine.registry import manifest
from learning_engine.registry.manifest import VersionNumber

LARGEST = 100_000_000
ANSWER_TOKENS = 24
BATCH = 32


def examine(loaded: Any, known: Sequence[Question], lessons: Sequence[Week]) -> list[float]:
    """The model's shares of right answers: to `known`, what the base knows, then to each week's exam."""
    exams: list[Sequence[Question]] = [known, *(week.exam for week in lessons)]
    return [share_right(loaded.model, loaded.tokenizer, exam) for exam in exams]


def share_right(model: Any, tokenizer: Any, questions: Sequence[Question]) -> float:
    """Share in [0, 1] of the questions whose greedy answer of at most ANSWER_TOKENS tokens is right."""
    answers = greedy_answers(model, tokenizer, [question.text for question in questions])
    return sum(question.right(answer) for question, answer in zip(questions, answers, strict=True)) / len(questions)


def greedy_answers(model: Any, tokenizer: Any, questions: Sequence[str]) -> list[str]:
    """The answers to single questions, without the end of the turn."""
    import torch

    from learning_engine.evaluation.batching import by_length, pad
    from learning_engine.evaluation.greedy import GREEDY

    chats = [[{"role": "user", "content": question}] for question in questions]
    options: dict[str, Any] = {"add_generation_prompt": True, "tokenize": True, "return_dict": False}
    prompts = [tokenizer.apply_chat_template(chat, **options) for chat in chats]
    answers, filler = [""] * len(prompts), tokenizer.pad_token_id
    model.eval()
    for rows in by_length(prompts, batch_size=BATCH):
        ids, mask = pad([prompts[row] for row in rows], value=filler, device=model.device, left=True)
        with torch.no_grad():
            output = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=ANSWER_TOKENS, pad_token_id=filler, **GREEDY
            )
        texts = tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
        for row, text in zip(rows, texts, strict=True):
            answers[row] = text.strip()
    return answers


def main() -> None:
    from learning_engine.learning import model

    target, world, bucket = Path(sys.argv[1]), WORLDS[sys.argv[2]], Path(sys.argv[4])
    lessons, settings = world.weeks(datetime.fromisoformat(sys.argv[3])), config.load()
    found = (VersionNumber.parse(path.parent.name) for path in bucket.glob(f"{manifest.ADAPTERS}*/{manifest.METADATA}"))
    with TemporaryDirectory() as work:
        adapters: list[Path | None] = [None]
        for version in map(str, sorted(found)):
            adapters.append(Path(work) / version)
            packed = bucket / manifest.adapter_key(version, manifest.ARCHIVE)
            archive.unpack(packed, Path(work) / version, max_bytes=LARGEST)
        seed = settings.training.seed
        models = (
            model.load(settings.model, settings.lora, adapter=adapter, trainable=False, seed=seed)
            for adapter in adapters
        )
        matrix = [examine(loaded, world.base_exam(), lessons) for loaded in models]
    target.write_text(json.dumps(matrix))


if __name__ == "__main__":
    main()
