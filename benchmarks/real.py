"""A real chat model learns facts about a company, week by week: what does it learn and keep, and is it harmed?

    .venv/bin/python benchmarks/real.py

SmolLM2-135M-Instruct (demo/smollm2.py) learns a sample of the facts of the demo's company: six likes each, and dislikes
of wrong answers. Each method trains the same weeks from the same base. EWC guards the base on conversations that it
wrote itself, and then every week; replay also repeats some of them. Learned is the share of a week's facts that the
model answers right, greedily, in wordings that no user used, right after the week; kept is the share of the earlier
weeks' facts after the last week. General is the share of thirty general questions, all of which the base answers right,
and base the loss of the base's own answers to the package's prompts, over what it was before any training; there, first
choices is the share of tokens that are chosen as the base does, and KL that from the base in nats per token. Means over
three seeds, which draw other facts. Two processes of one thread each, an hour. --study compares the choices behind the
defaults, one seed each, in an hour and a half; --full: all facts of four weeks, five seeds.
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
from common import chat, own_answers, report
from common.own_answers import Known
from company.methods import COMPARED, DEFAULT, STUDIED, Method

from demo import company, company_lessons, smollm2
from demo.exam import share_right
from demo.lessons import Question
from learning_engine.config import sections
from learning_engine.feedback.replay import ANCHOR_SHARE
from learning_engine.learning import ewc, fisher, model, scale, trainer
from learning_engine.learning.batches import rows_to_replay
from learning_engine.learning.information import FisherInformation
from learning_engine.learning.model import Loaded

COLUMNS = {
    "method": "method",
    "learned": "learned",
    "kept": "kept",
    "general": "general",
    "base": "base",
    "left": "first choices",
    "kl": "KL",
    "seconds": "CPU seconds a week",
    "megabytes": "MB of factors",
}
FIGURES = tuple(COLUMNS)[1:]
# The layers with an adapter, and the draws of the Fisher information.
Setting = tuple[tuple[str, ...], int]


@dataclass(frozen=True)
class Size:
    """How much is trained: facts of each week, weeks, conversations that guard the base, prompts that judge it."""

    facts: int
    weeks: int
    conversations: int
    prompts: int
    epochs: float | None = None


SIZES = {"default": Size(12, 2, 96, 24), "full": Size(30, 4, 200, 24), "tiny": Size(2, 2, 8, 8, epochs=1.0)}


def load(seed: int, device: str, layers: tuple[str, ...]) -> Loaded:
    # Not validated: the package itself adapts attention layers only, which every server takes.
    lora = sections.Lora.model_construct(**{**sections.Lora().model_dump(), "target_modules": layers})
    return model.load(
        sections.Model(base=str(smollm2.ready()), device=device), lora, adapter=None, trainable=True, seed=seed
    )


def setting(method: Method) -> Setting:
    return method.layers, method.draws


def guard(setting: Setting, known: Known, device: str) -> FisherInformation:
    """The Fisher information of the base on its own conversations; a new adapter's does not depend on its seed."""
    layers, draws = setting
    loaded = load(0, device, layers)
    return scale.scaled(fisher.compute(loaded, known.guarding, sections.Fisher(draws=draws), seed=0, guards="base"))


def week(number: int, size: Size, seed: int) -> tuple[list[tuple[str, str, int]], list[Question]]:
    """Rated answers of one week, and its exam. The facts and wrong answers depend on the seed."""
    rng = random.Random(f"{seed} {number}")  # noqa: S311
    facts = rng.sample(company.week_facts(number), size.facts)
    votes = [(question, fact.answer, 1) for fact in facts for question in fact.questions()]
    votes += [(rng.choice(fact.questions()), fact.wrong(rng), -1) for fact in facts]
    exam = [Question(rng.choice(fact.exam_questions()), fact.answer, fact.value, fact.rivals) for fact in facts]
    return rng.sample(votes, len(votes)), exam


def run(method: Method, size: Size, seed: int, known: Known, guarded: FisherInformation, device: str) -> dict[str, Any]:
    """Train the weeks one after the other; return the figures."""
    loaded, began = load(seed, device, method.layers), time.process_time()
    information = guarded if method.strength else None
    exams, old, learned = list[list[Question]](), list[datasets.Dataset](), list[float]()
    for number in range(size.weeks):
        votes, exam = week(number, size, seed)
        rows = chat.encode(loaded, votes)
        _train(loaded, method, size, information, rows, old, known.guarding, seed=seed + number)
        exams.append(exam)
        learned.append(share_right(loaded.model, loaded.tokenizer, exam))
        liked = rows.filter(lambda rating: rating > 0, input_columns="rating")
        old.append(liked)
        if information is not None and number + 1 < size.weeks:
            settings = sections.Fisher(draws=method.draws)
            new = scale.scaled(fisher.compute(loaded, liked, settings, seed=seed, guards=f"week {number + 1}"))
            information = fisher.accumulate(new, information, settings)
    seconds = time.process_time() - began
    kept = [share_right(loaded.model, loaded.tokenizer, exam) for exam in exams[:-1]]
    base = own_answers.left(loaded, known)
    return {
        "seed": seed,
        "learned": statistics.mean(learned),
        "kept": statistics.mean(kept),
        "general": share_right(loaded.model, loaded.tokenizer, company_lessons.base_exam()),
        "base": base.loss / base.loss_base,
        "left": base.left,
        "kl": base.kl,
        "seconds": seconds / size.weeks,
        "megabytes": sum(tensor.nbytes for tensor in information.tensors.values()) / 1e6 if information else 0.0,
    }


def _train(
    loaded: Loaded,
    method: Method,
    size: Size,
    information: FisherInformation | None,
    rows: datasets.Dataset,
    old: Sequence[datasets.Dataset],
    guarding: datasets.Dataset,
    *,
    seed: int,
) -> None:
    epochs = size.epochs or method.epochs
    replayed = _replayed(rows, old, guarding, round(epochs) * rows_to_replay(len(rows), method.replay), seed)
    training = sections.Training(
        objective=method.objective,
        kto_beta=method.beta,
        learning_rate=method.learning_rate,
        epochs=epochs,
        batch_size=method.batch_size,
        replay=method.replay,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as directory:
        trainer.train(
            loaded,
            datasets.concatenate_datasets([rows, replayed]),
            ewc.anchored_penalty(loaded.model, information, method.strength, progress=method.progress),
            training,
            replayed=len(replayed),
            workdir=Path(directory),
            resume=None,
            on_checkpoint=None,
            on_log=lambda _: None,
        )


def _replayed(
    rows: datasets.Dataset, old: Sequence[datasets.Dataset], guarding: datasets.Dataset, size: int, seed: int
) -> datasets.Dataset:
    """`size` old rows, as far as there are so many, drawn as `feedback.replay` draws them."""
    of_anchor = round(size * ANCHOR_SHARE)
    parts = [guarding.shuffle(seed=seed).select(range(min(len(guarding), of_anchor)))]
    if old:
        kept = datasets.concatenate_datasets(list(old))
        parts.append(kept.shuffle(seed=seed).select(range(min(len(kept), size - of_anchor))))
    found: datasets.Dataset = datasets.concatenate_datasets([rows.select([]), *parts])
    return found


def mean(method: Method, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    figures = {name: statistics.mean(run[name] for run in runs) for name in FIGURES}
    return {"method": method.name, **figures, "runs": list(runs)}


def targets(rows: Sequence[dict[str, Any]]) -> list[report.Target]:
    ours = next(row for row in rows if row["method"] == DEFAULT.name)
    return [
        report.Target("default: facts learned", ours["learned"], ">=", 0.8),
        report.Target("default: facts kept", ours["kept"], ">=", 0.8),
        report.Target("default: loss of the base's own answers, ratio", ours["base"], "<=", 1.1),
    ]


def conduct(options: argparse.Namespace) -> list[dict[str, Any]]:
    size = SIZES["tiny" if options.tiny else "full" if options.full else "default"]
    methods = (COMPARED[0], DEFAULT) if options.tiny else STUDIED if options.study else COMPARED
    count = 1 if options.tiny or options.study else 5 if options.full else 3
    seeds = [options.seed + place for place in range(count)]
    datasets.disable_progress_bars()
    workers = 1 if options.tiny else options.workers
    torch.set_num_threads(workers)
    loaded = load(0, options.device, methods[0].layers)
    known = own_answers.know(loaded, conversations=size.conversations, judged_by=size.prompts)
    guarded = {each: guard(each, known, options.device) for each in dict.fromkeys(map(setting, methods))}
    rows = list[dict[str, Any]]()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _quietly) as pool:
        work = {
            method: [
                pool.submit(run, method, size, seed, known, guarded[setting(method)], options.device) for seed in seeds
            ]
            for method in methods
        }
        for method, runs in work.items():
            rows.append(mean(method, [found.result() for found in runs]))
            print(f"{method.name}: { ({name: round(rows[-1][name], 3) for name in FIGURES}) }", flush=True)
    return rows


def _quietly() -> None:
    torch.set_num_threads(1)
    datasets.disable_progress_bars()


def main() -> None:
    parser = report.parser(__doc__, tiny=True)
    parser.add_argument("--study", action="store_true", help="compare the choices behind the defaults, one seed each")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    options = parser.parse_args()
    rows = conduct(options)
    report.publish(
        "real-study" if options.study else "real",
        rows=rows,
        targets=targets(rows),
        packages=("torch", "transformers", "peft"),
        arguments=options,
        columns=COLUMNS,
        title="SmolLM2-135M-Instruct learns a company's facts",
    )


if __name__ == "__main__":
    main()
