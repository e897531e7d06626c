"""The exam: the share of questions that a model answers word for word with greedy decoding.

    python -m demo.exam matrix.json FIRST_MONDAY BUCKET

examines the base model and every version in a copy of the bucket, with the environment's configuration.
"""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from demo.lessons import Question, Week, base_exam, weeks
from learning_engine import archive, config
from learning_engine.registry import manifest
from learning_engine.registry.manifest import VersionNumber

LARGEST = 100_000_000


def examine(loaded: Any, lessons: Sequence[Week]) -> list[float]:
    """The model's shares of right answers: on the base's facts, then on each week's."""
    exams: list[Sequence[Question]] = [base_exam(), *(week.exam for week in lessons)]
    return [share_right(loaded.model, loaded.tokenizer, exam) for exam in exams]


def share_right(model: Any, tokenizer: Any, questions: Sequence[Question]) -> float:
    """Share in [0, 1]. An answer counts as right if each of its tokens is the most likely next one."""
    import torch

    chats = [_encode(tokenizer, question) for question in questions]
    width = max(len(prompt) + len(answer) for prompt, answer in chats)
    ids = torch.full((len(chats), width), tokenizer.pad_token_id)
    expected = torch.full_like(ids, -1)
    for row, (prompt, answer) in enumerate(chats):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor([*prompt, *answer])
        expected[row, len(prompt) : end] = torch.tensor(answer)
    model.eval()
    with torch.no_grad():
        likeliest = model(input_ids=ids).logits[:, :-1].argmax(-1)
    right = ((likeliest == expected[:, 1:]) | (expected[:, 1:] == -1)).all(dim=1)
    return int(right.sum()) / len(questions)


def _encode(tokenizer: Any, question: Question) -> tuple[list[int], list[int]]:
    asked = [{"role": "user", "content": question.text}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=True, return_dict=False)
    answer = tokenizer(question.answer, add_special_tokens=False)["input_ids"]
    return prompt, [*answer, tokenizer.eos_token_id]


def main() -> None:
    from learning_engine.learning import model

    target, lessons, bucket = Path(sys.argv[1]), weeks(datetime.fromisoformat(sys.argv[2])), Path(sys.argv[3])
    settings = config.load()
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
        matrix = [examine(loaded, lessons) for loaded in models]
    target.write_text(json.dumps(matrix))


if __name__ == "__main__":
    main()
