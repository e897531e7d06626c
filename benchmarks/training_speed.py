"""Time an epoch of this package's trainer against TRL's SFTTrainer on the same model, data, batch size and precision.

    .venv/bin/python benchmarks/training_speed.py

`weighted_sft` with equal weights is plain supervised fine-tuning, so both minimise the same loss. `loss` is that of all
rows after the epoch, in nats per supervised token. TRL runs in its best configuration for such data: batches grouped by
length (group_by_length sorts within a quarter of a small data set), no gradient checkpointing, and a loss that avoids
the full logits. It also runs on rows in our order: both then take the same steps and must end at the same loss. With
--full it also runs once with its defaults. With --prefix N all rows begin with the same N tokens, as with a system
prompt, which ours computes once a batch. Timing excludes creating model and data; it covers creating the trainer and
training to the last step.
Prints a table; writes benchmarks/results/training_speed.json, or training_speed-prefix.json.
"""

# ruff: noqa: TID253 (a benchmark loads what it measures)

import argparse
import logging
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import report, shapes, timing
from peers import fisher as peers
from peers import sft

from learning_engine.config import sections
from learning_engine.learning import ewc, packing, trainer
from learning_engine.learning.batches import LengthGroupedSampler, Rows
from learning_engine.learning.model import Loaded

OURS, SAME_ORDER = "ours", "TRL, our order of the rows"
BEST = "TRL, group_by_length"
DEFAULTS = "TRL's defaults: random order, gradient checkpointing"
FASTER, APART = 3.0, 1e-4
COLUMNS = {"what": "", "seconds": "s", "ratio": "÷ ours", "loss": "loss after"}
Run = Callable[[Loaded, Path], object]


def contestants(examples: Any, arguments: argparse.Namespace, batch: int, learning_rate: float) -> dict[str, Run]:
    seed, device = arguments.seed, arguments.device
    settings = sections.Training(
        objective="weighted_sft",
        epochs=1,
        learning_rate=learning_rate,
        batch_size=batch,
        scheduler="constant",
        warmup_ratio=0,
        precision="bf16" if device == "cuda" else "fp32",
        seed=seed,
    )
    order = list(LengthGroupedSampler(Rows(examples).lengths, batch_size=batch, seed=seed))

    def ours(loaded: Loaded, workdir: Path) -> None:
        packing.enable(loaded.model.get_base_model())
        nothing = ewc.Penalty(None, 0.0)
        trainer.train(
            loaded, examples, nothing, settings, workdir=workdir, resume=None, on_checkpoint=None, on_log=lambda _: None
        )

    def trl(sampling: str, rows: Any, *, quick: bool) -> Run:
        def run(loaded: Loaded, workdir: Path) -> None:
            sft.train(
                loaded.model,
                rows,
                order=sampling,
                quick=quick,
                batch=batch,
                learning_rate=learning_rate,
                seed=seed,
                device=device,
                workdir=workdir,
            )

        return run

    runs = {
        OURS: ours,
        BEST: trl("group_by_length", examples, quick=True),
        SAME_ORDER: trl("sequential", examples.select(order), quick=True),
    }
    return {**runs, DEFAULTS: trl("random", examples, quick=False)} if arguments.full else runs


def measure(
    runs: dict[str, Run], shape: shapes.Shape, examples: Any, arguments: argparse.Namespace, *, rounds: int
) -> Iterator[dict[str, Any]]:
    """Run every contestant from the same weights in each round; TRL's defaults run only in the first round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    losses: dict[str, float] = {}
    for number in range(rounds):
        for name, run in runs.items():
            if name == DEFAULTS and number:
                continue
            loaded = shapes.loaded(shape, device=arguments.device, seed=arguments.seed)
            with tempfile.TemporaryDirectory() as workdir:
                seconds[name].append(timing.once(partial(run, loaded, Path(workdir)), device=arguments.device))
            losses[name] = mean_loss(loaded, examples)
            print(f"round {number + 1}: {name}, {seconds[name][-1]:.1f} s, loss {losses[name]:.4f}", flush=True)
    for name, taken in seconds.items():
        ratios = [mine / ours for mine, ours in zip(taken, seconds[OURS], strict=False)]
        yield {
            "what": name,
            "seconds": statistics.median(taken),
            "ratio": statistics.median(ratios),
            "loss": losses[name],
            "all_seconds": taken,
        }


@torch.no_grad()
def mean_loss(loaded: Loaded, examples: Any) -> float:
    """Mean loss over all rows, in nats per supervised token."""
    rows = Rows(examples)
    each = [peers.token_losses(loaded.model, [rows[index]]) for index in range(len(rows))]
    return float(torch.cat(each).mean())


def main(argv: Sequence[str] | None = None) -> None:
    options = report.parser(__doc__, tiny=True)
    options.add_argument("--prefix", type=int, default=0, help="tokens that all rows begin with, like a system prompt")
    arguments = options.parse_args(argv)
    arguments.threads = torch.get_num_threads()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    shape = shapes.for_arguments(arguments, shapes.SMALL)
    sequences, tokens, batch = (16, 12, 4) if arguments.tiny else (64, 211, 8)
    if arguments.device == "cuda":
        sequences, tokens, batch = 256, 512, 8
    examples = shapes.feedback(
        sequences,
        tokens=tokens,
        share=0.38,
        vocabulary=shape.vocabulary,
        seed=arguments.seed,
        prefix=arguments.prefix,
    )
    title = shapes.describe(shape, examples, batch=batch)
    print(f"{title}; {arguments.threads} threads, seed {arguments.seed}")
    before = mean_loss(shapes.loaded(shape, device=arguments.device, seed=arguments.seed), examples)
    runs = contestants(examples, arguments, batch, learning_rate=2e-4)
    rounds = 1 if arguments.tiny else 5 if arguments.full else 2
    rows = list(measure(runs, shape, examples, arguments, rounds=rounds))
    found = {row["what"]: row for row in rows}
    apart = abs(found[OURS]["loss"] - found[SAME_ORDER]["loss"])
    report.publish(
        "training_speed-prefix" if arguments.prefix else "training_speed",
        rows=[*rows, {"what": "before training", "loss": before}],
        targets=[
            report.Target(f"{BEST}, ÷ ours", found[BEST]["ratio"], ">=", FASTER),
            report.Target("difference of the final losses after the same steps, nats", apart, "<=", APART),
        ],
        packages=("torch", "transformers", "peft", "trl"),
        arguments=arguments,
        columns=COLUMNS,
        title=title,
    )


if __name__ == "__main__":
    main()
