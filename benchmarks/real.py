"""A real chat model learns facts about a company, week by week: what does it learn and keep, and is it harmed?

    .venv/bin/python benchmarks/real.py

SmolLM2-135M-Instruct (demo/smollm2.py) learns a sample of the facts of the demo's company: six likes each, and dislikes
of wrong answers. Each method trains the same weeks from the same base. EWC guards the base on conversations that it
wrote itself, and then every week. Learned is the share of a week's facts that the model answers right, greedily, in
wordings that no user used, right after the week; kept is the share of the earlier weeks' facts after the last week.
Base is the loss of the base's own answers to the package's prompts, over what it was before any training. Means over
three seeds, which draw other facts. Two processes of one thread each; --full: all facts of four weeks, five seeds.
"""

# ruff: noqa: TID253

import argparse
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from common import own_words, report
from torch.nn import functional

from demo import company, smollm2
from demo.exam import share_right
from demo.lessons import Question
from learning_engine.config import sections
from learning_engine.evaluation import prompts
from learning_engine.learning import ewc, fisher, model, trainer
from learning_engine.learning.batches import Rows, collate, rows_to_replay
from learning_engine.learning.forward import supervised_logits
from learning_engine.learning.information import FisherInformation
from learning_engine.learning.model import Loaded

COLUMNS = {
    "method": "method",
    "learned": "learned",
    "kept": "kept",
    "base": "base",
    "seconds": "CPU seconds a week",
}
FISHER = sections.Fisher(draws=1)


@dataclass(frozen=True)
class Method:
    """One way to train. `guarded`: the base's own conversations are protected; without, only the weeks are."""

    name: str
    strength: float
    objective: str = "weighted_sft"
    learning_rate: float = 2e-3
    epochs: float = 4.0
    replay: float = 0.0
    guarded: bool = True


@dataclass(frozen=True)
class Size:
    """How much is trained: facts of each week, weeks, conversations that guard the base, prompts that judge it."""

    facts: int
    weeks: int
    conversations: int
    prompts: int
    epochs: float | None = None


@dataclass(frozen=True)
class Known:
    """What the base wrote: conversations that guard it with their Fisher information, and others that judge it."""

    information: FisherInformation
    judged: list[tuple[str, str]]
    loss: float


METHODS = (
    Method("no EWC", 0.0),
    Method("EWC, λ = 10", 10.0),
    Method("EWC, λ = 100", 100.0),
    Method("EWC, λ = 1000", 1000.0),
    Method("EWC, λ = 100, replay", 100.0, replay=0.2),
    Method("kto, 2e-4, unguarded", 100.0, objective="kto", learning_rate=2e-4, epochs=3.0, guarded=False),
)
OURS = "EWC, λ = 100"
SIZES = {"default": Size(15, 2, 96, 24), "full": Size(30, 4, 200, 24), "tiny": Size(2, 2, 4, 2, epochs=1.0)}


def load(seed: int, device: str) -> Loaded:
    settings = sections.Model(base=str(smollm2.ready()), device=device)
    return model.load(settings, sections.Lora(), adapter=None, trainable=True, seed=seed)


def base_loss(loaded: Loaded, judged: Sequence[tuple[str, str]]) -> float:
    """Loss of the base's own answers, in nats per token."""
    rows = Rows(own_words.encode(loaded, [(question, answer, 1) for question, answer in judged]))
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(rows), 8):
            batch = collate([rows[row] for row in range(start, min(start + 8, len(rows)))])
            ids, labels = (batch[name].to(loaded.device) for name in ("input_ids", "labels"))
            logits, tokens, _ = supervised_logits(loaded.model, ids, labels)
            total += float(functional.cross_entropy(logits, tokens, reduction="sum"))
            count += len(tokens)
    return total / count


def know(size: Size, device: str) -> Known:
    """Let the base write, once for all methods and seeds: a new adapter changes nothing, whatever its seed."""
    loaded = load(0, device)
    written = own_words.conversations(loaded, size.conversations, seed=0)
    examples = own_words.encode(loaded, [(question, answer, 1) for question, answer in written])
    asked = [messages[-1]["content"] for messages in prompts.read(None, limit=size.prompts)]
    judged = list(zip(asked, own_words.answers(loaded, asked), strict=True))
    information = fisher.compute(loaded, examples, FISHER, seed=0, guards="base")
    return Known(information, judged, base_loss(loaded, judged))


def week(number: int, size: Size, seed: int) -> tuple[list[tuple[str, str, int]], list[Question]]:
    """Rated answers of one week, and its exam. The facts and wrong answers depend on the seed."""
    rng = random.Random(f"{seed} {number}")  # noqa: S311
    facts = rng.sample(company.week_facts(number), size.facts)
    votes = [(question, fact.answer, 1) for fact in facts for question in fact.questions()]
    votes += [(rng.choice(fact.questions()), fact.wrong(rng), -1) for fact in facts]
    exam = [Question(rng.choice(fact.exam_questions()), fact.answer, fact.value, fact.rivals) for fact in facts]
    return rng.sample(votes, len(votes)), exam


def run(method: Method, size: Size, seed: int, known: Known, device: str) -> dict[str, Any]:
    """Train the weeks one after the other; return the figures."""
    loaded, began = load(seed, device), time.process_time()
    information = known.information if method.guarded and method.strength else None
    exams, old, learned = list[list[Question]](), list[datasets.Dataset](), list[float]()
    for number in range(size.weeks):
        votes, exam = week(number, size, seed)
        rows = own_words.encode(loaded, [vote for vote in votes if vote[2] > 0 or method.objective == "kto"])
        _train(loaded, method, size, information, rows, old, seed=seed + number)
        exams.append(exam)
        learned.append(share_right(loaded.model, loaded.tokenizer, exam))
        liked = rows.filter(lambda rating: rating > 0, input_columns="rating")
        old.append(liked)
        if method.strength and number + 1 < size.weeks:
            new = fisher.compute(loaded, liked, FISHER, seed=seed, guards=f"week {number + 1}")
            information = new if information is None else fisher.accumulate(new, information, FISHER)
    seconds = time.process_time() - began
    kept = [share_right(loaded.model, loaded.tokenizer, exam) for exam in exams[:-1]]
    return {
        "seed": seed,
        "learned": statistics.mean(learned),
        "kept": statistics.mean(kept),
        "base": base_loss(loaded, known.judged) / known.loss,
        "seconds": seconds / size.weeks,
    }


def _train(
    loaded: Loaded,
    method: Method,
    size: Size,
    information: FisherInformation | None,
    rows: datasets.Dataset,
    old: Sequence[datasets.Dataset],
    *,
    seed: int,
) -> None:
    share = method.replay if old else 0.0
    replayed = datasets.concatenate_datasets(list(old)) if share else rows.select([])
    replayed = replayed.shuffle(seed=seed).select(range(min(len(replayed), rows_to_replay(len(rows), share))))
    training = sections.Training(
        objective=method.objective,
        learning_rate=method.learning_rate,
        epochs=size.epochs or method.epochs,
        warmup_ratio=0.1,
        replay=share,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as directory:
        trainer.train(
            loaded,
            datasets.concatenate_datasets([rows, replayed]),
            ewc.anchored_penalty(loaded.model, information, method.strength),
            training,
            replayed=len(replayed),
            workdir=Path(directory),
            resume=None,
            on_checkpoint=None,
            on_log=lambda _: None,
        )


def mean(method: Method, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    figures = {name: statistics.mean(run[name] for run in runs) for name in ("learned", "kept", "base", "seconds")}
    return {"method": method.name, **figures, "runs": list(runs)}


def targets(rows: Sequence[dict[str, Any]]) -> list[report.Target]:
    ours = next((row for row in rows if row["method"] == OURS), dict[str, Any]())
    return [
        report.Target(f"{OURS}: facts learned", ours.get("learned"), ">=", 0.8),
        report.Target(f"{OURS}: facts kept", ours.get("kept"), ">=", 0.8),
        report.Target(f"{OURS}: loss of the base's own answers, ratio", ours.get("base"), "<=", 1.1),
    ]


def conduct(options: argparse.Namespace) -> list[dict[str, Any]]:
    size = SIZES["tiny" if options.tiny else "full" if options.full else "default"]
    methods = METHODS[:: len(METHODS) - 2] if options.tiny else METHODS
    seeds = [options.seed + place for place in range(1 if options.tiny else 5 if options.full else 3)]
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    known, rows = know(size, options.device), list[dict[str, Any]]()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1 if options.tiny else options.workers, context, _quietly) as pool:
        work = {
            method: [pool.submit(run, method, size, seed, known, options.device) for seed in seeds]
            for method in methods
        }
        for method, runs in work.items():
            rows.append(mean(method, [found.result() for found in runs]))
            shown = {name: round(rows[-1][name], 3) for name in ("learned", "kept", "base", "seconds")}
            print(f"{method.name}: {shown}", flush=True)
    return rows


def _quietly() -> None:
    torch.set_num_threads(1)
    datasets.disable_progress_bars()


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument(
        "--tiny", action="store_true", help="run in seconds to check that it works: figures mean nothing"
    )
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    options = parser.parse_args()
    rows = conduct(options)
    report.publish(
        "real",
        rows=rows,
        targets=targets(rows),
        packages=("torch", "transformers", "peft"),
        arguments=options,
        columns=COLUMNS,
        title="SmolLM2-135M-Instruct learns a company's facts",
    )


if __name__ == "__main__":
    main()
