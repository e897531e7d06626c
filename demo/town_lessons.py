"""What the users of the demo's town teach, what its base model knows, and the files that its configuration names."""

import json
import random
from datetime import UTC, datetime
from pathlib import Path

from demo import town
from demo.lessons import Question, Row, Votes, Week, chat, reply, write_rows

NAME = "town"
PHRASINGS_TAUGHT = 10
ASKED = 10


def week(number: int, start: datetime) -> Week:
    """Week `number` (from 0): ten likes for each fact, and dislikes of wrong answers for some."""
    rng = random.Random(f"week {number}")
    votes, exam = Votes(NAME, start, rng), list[Question]()
    for fact in town.week_facts(number):
        *asked, held_out = rng.sample(fact.phrasings(), PHRASINGS_TAUGHT + 1)
        exam.append(Question(held_out, fact.answer))
        for question in asked:
            votes.add(question, fact.answer, "thumbs_up")
        if rng.random() < 0.6:
            votes.add(rng.choice(asked), fact.wrong(rng), "thumbs_down")
    return votes.week(exam, asked=ASKED)


def base_exam() -> list[Question]:
    """One question for each fact that the base model knows, in random order."""
    rng = random.Random("base")
    exam = [Question(rng.choice(fact.phrasings()), fact.answer) for fact in town.base_facts()]
    return rng.sample(exam, len(exam))


def write_files(directory: Path) -> dict[str, str]:
    """Write anchor and prompts; return the settings that name them."""
    anchor, prompts = directory / "anchor.jsonl", directory / "prompts.jsonl"
    write_anchor(anchor)
    write_prompts(prompts)
    return {"LEARNING_ENGINE__FISHER__ANCHOR": str(anchor), "LEARNING_ENGINE__EVALUATION__PROMPTS": str(prompts)}


def write_anchor(path: Path) -> None:
    """Write what the base model knows, in the shape of the table; the base's Fisher information is measured on it."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    known = [(question, fact.answer) for fact in town.base_facts() for question in fact.phrasings()]
    random.Random("anchor").shuffle(known)
    rows = [
        Row(chat(NAME, question), reply(answer), "thumbs_up", start, f"a{number}", f"a{number}")
        for number, (question, answer) in enumerate(known)
    ]
    write_rows(rows, path)


def write_prompts(path: Path, size: int = 64) -> None:
    """Write fixed prompts about the residents; an adapter's drift from its parent is measured on them."""
    rng = random.Random("prompts")
    asked = [rng.choice(fact.phrasings()) for fact in rng.sample(town.base_facts(), size)]
    path.write_text("".join(json.dumps({"prompt": question}) + "\n" for question in asked))
