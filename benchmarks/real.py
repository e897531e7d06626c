"""A real chat model learns facts about a company, week by week: what does it learn and keep, and is it harmed?

    .venv/bin/python benchmarks/real.py

SmolLM2-135M-Instruct (demo/smollm2.py) learns a sample of the facts of the demo's company: six likes each, and dislikes
of wrong answers. Each method trains the same weeks from the same base. EWC guards the base on conversations that it
wrote itself, and then every week; replay also repeats some of them. Learned is the share of a week's facts that the
model answers right, greedily, in wordings that no user used, right after the week; kept is the share of the earlier
weeks' facts after the last week. General is the share of 27 general questions, all of which the base answers right,
and base the loss of the base's own answers to the package's prompts, over what it was before any training; there, first
choices is the share of tokens that are chosen as the base does, and KL that from the base in nats per token. Means over
three seeds, which draw other facts. Two processes of one thread each, an hour.

--study compares the choices behind the defaults, one seed each, in an hour and a half. Two more runs are of the default
alone, two seeds, and also show the figures after each week: --full learns all facts of four weeks, 210 rows a week, and
--long twelve weeks of six facts; an hour each.
"""

# ruff: noqa: TID253

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import torch
from common import chat, own_answers, report
from common.own_answers import Known
from company.figures import COLUMNS, FIGURES, Figures, mean, weekly
from company.methods import COMPARED, DEFAULT, STUDIED, Method
from company.weeks import SIZES, Size
from rich.console import Console

from demo import company_lessons, smollm2
from demo.exam import share_right
from demo.lessons import Question
from learning_engine.config import sections
from learning_engine.learning import ewc, fisher, model, scale, trainer
from learning_engine.learning.information import FisherInformation
from learning_engine.learning.model import Loaded
from learning_engine.learning.replayed import rows_to_replay

# The layers with an adapter, and the draws of the Fisher information.
Setting = tuple[tuple[str, ...], int]


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


def run(method: Method, size: Size, seed: int, known: Known, guarded: FisherInformation, device: str) -> dict[str, Any]:
    """Train the weeks one after the other; return the figures."""
    loaded, seconds = load(seed, device, method.layers), 0.0
    information = guarded if method.strength else None
    exams, old, learned, by_week = list[list[Question]](), list[datasets.Dataset](), list[float](), list[Figures]()
    for number in range(size.weeks):
        votes, exam = size.lessons(number, seed)
        began = time.process_time()
        rows = chat.encode(loaded, votes)
        _train(loaded, method, size, information, rows, old, known.guarding, seed=seed + number)
        seconds += time.process_time() - began
        learned.append(share_right(loaded.model, loaded.tokenizer, exam))
        last = number + 1 == size.weeks
        if size.by_week or last:
            by_week.append({"week": number + 1, "learned": learned[-1], **_examined(loaded, exams, known)})
        exams.append(exam)
        liked = rows.filter(lambda rating: rating > 0, input_columns="rating")
        old.append(liked)
        if information is not None and not last:
            began, settings = time.process_time(), sections.Fisher(draws=method.draws)
            new = scale.scaled(fisher.compute(loaded, liked, settings, seed=seed, guards=f"week {number + 1}"))
            information = fisher.accumulate(new, information, settings)
            seconds += time.process_time() - began
    return {
        **by_week[-1],
        "seed": seed,
        "learned": statistics.mean(learned),
        "seconds": seconds / size.weeks,
        "megabytes": sum(tensor.nbytes for tensor in information.tensors.values()) / 1e6 if information else 0.0,
        "by_week": by_week,
    }


def _examined(loaded: Loaded, earlier: Sequence[Sequence[Question]], known: Known) -> Figures:
    """What is left of earlier weeks and of the base."""
    base = own_answers.left(loaded, known)
    kept = [share_right(loaded.model, loaded.tokenizer, exam) for exam in earlier]
    return {
        "kept": statistics.mean(kept) if kept else None,
        "general": share_right(loaded.model, loaded.tokenizer, company_lessons.base_exam()),
        "base": base.loss / base.loss_base,
        "left": base.left,
        "kl": base.kl,
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
    size_replayed = round(epochs) * rows_to_replay(len(rows), method.replay)
    replayed = _replayed(rows, old, guarding, size_replayed, method.of_base, seed)
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
    rows: datasets.Dataset,
    old: Sequence[datasets.Dataset],
    guarding: datasets.Dataset,
    size: int,
    share: float,
    seed: int,
) -> datasets.Dataset:
    """`size` old rows, as far as there are so many, drawn as `feedback.replay` draws them; `share` are the base's."""
    of_anchor = round(size * share)
    parts = [guarding.shuffle(seed=seed).select(range(min(len(guarding), of_anchor)))]
    if old:
        kept = datasets.concatenate_datasets(list(old))
        parts.append(kept.shuffle(seed=seed).select(range(min(len(kept), size - of_anchor))))
    found: datasets.Dataset = datasets.concatenate_datasets([rows.select([]), *parts])
    return found


def targets(rows: Sequence[dict[str, Any]]) -> list[report.Target]:
    ours = next(row for row in rows if row["method"] == DEFAULT.name)
    return [
        report.Target("default: facts learned", ours["learned"], ">=", 0.8),
        report.Target("default: facts kept", ours["kept"], ">=", 0.8),
        report.Target("default: loss of the base's own answers, ratio", ours["base"], "<=", 1.1),
    ]


def conduct(options: argparse.Namespace) -> list[dict[str, Any]]:
    size = SIZES["tiny" if options.tiny else "full" if options.full else "long" if options.long else "default"]
    alone, methods = options.full or options.long, STUDIED if options.study else COMPARED
    methods = (COMPARED[0], DEFAULT) if options.tiny else (DEFAULT,) if alone else methods
    count = 1 if options.tiny or options.study else 2 if alone else 3
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
            if size.by_week:
                Console(width=100).print(report.table(method.name, weekly(rows[-1]["runs"])))
    return rows


def _quietly() -> None:
    torch.set_num_threads(1)
    datasets.disable_progress_bars()


def main() -> None:
    parser = report.parser(__doc__, tiny=True)
    parser.add_argument("--study", action="store_true", help="compare the choices behind the defaults, one seed each")
    parser.add_argument("--long", action="store_true", help="the default alone, twelve weeks")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    options = parser.parse_args()
    rows = conduct(options)
    report.publish(
        "real-study" if options.study else "real-long" if options.long else "real",
        rows=rows,
        targets=targets(rows),
        packages=("torch", "transformers", "peft"),
        arguments=options,
        columns=COLUMNS,
        title="SmolLM2-135M-Instruct learns a company's facts",
    )


if __name__ == "__main__":
    main()
