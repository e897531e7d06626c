"""The same weeks without Airflow, store and server: a chain of adapters, each trained on the one before and examined.

    python -m demo.chain matrices.json MODEL FIRST_MONDAY feedback.jsonl

It measures how much would be forgotten with the textbook diagonal Fisher information and without EWC. The demo runs it
during the backfill. All other settings, the windows and the seeds are those of the weekly DAG. MODEL is one of
`worlds.WORLDS`, which says which of the ways are trained.
"""

import json
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from demo.exam import examine
from demo.lessons import Question, Week
from demo.worlds import WORLDS
from learning_engine.config import Settings, load

# The settings that each other way of training changes.
OTHER_WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "diagonal": {"fisher": {"structure": "diagonal", "smoothing": 0.0, "draws": 1}, "ewc": {"lambda_": 100.0}},
    "without": {"ewc": {"lambda_": 0.0}},
}


def changed(settings: Settings, ways: dict[str, dict[str, Any]]) -> Settings:
    parts = {name: getattr(settings, name).model_copy(update=values) for name, values in ways.items()}
    return settings.model_copy(update=parts)


def run(
    settings: Settings, known: Sequence[Question], lessons: Sequence[Week], feedback: Path, work: Path
) -> list[list[float]]:
    """Shares of right answers. Rows: the base, then after each week. Columns: `known`, then each week's exam."""
    from learning_engine.learning import model

    rows: list[list[float]] = []
    adapter: Path | None = None
    information: Any = None
    for number, week in enumerate(lessons):
        loaded = model.load(settings.model, settings.lora, adapter=adapter, trainable=True, seed=settings.training.seed)
        if adapter is None:
            rows.append(examine(loaded, known, lessons))
        earlier_week = lessons[number - 1] if number else None
        information = _measure_fisher(settings, loaded, information, earlier_week, feedback, work)
        _train(settings, loaded, information, week, feedback, work)
        rows.append(examine(loaded, known, lessons))
        adapter = work / f"adapter-{number}"
        model.save_adapter(loaded, adapter)
    return rows


def _measure_fisher(
    settings: Settings, loaded: Any, earlier: Any, week: Week | None, feedback: Path, work: Path
) -> Any:
    """The accumulated Fisher information of what `loaded` knows; None if λ = 0, which needs none."""
    from learning_engine.learning import fisher, scale

    if not settings.ewc.lambda_:
        return None
    source, window = (Path(str(settings.fisher.anchor)), None) if week is None else (feedback, week.window)
    examples = _examples(settings, loaded, source, window, work)
    liked = examples.filter(lambda rating: rating > 0, input_columns="rating")
    seed = settings.training.seed
    measured = fisher.compute(loaded, liked, settings.fisher, seed=seed, guards="this")
    if settings.fisher.structure != "diagonal":  # The textbook adds measurements as they are.
        measured = scale.scaled(measured)
    return fisher.accumulate(measured, earlier, settings.fisher) if earlier else measured


def _train(settings: Settings, loaded: Any, information: Any, week: Week, feedback: Path, work: Path) -> None:
    from learning_engine.learning import ewc, trainer

    metrics = trainer.train(
        loaded,
        _examples(settings, loaded, feedback, week.window, work),
        ewc.anchored_penalty(loaded.model, information, settings.ewc.lambda_, progress=settings.ewc.progress),
        settings.training,
        workdir=work / "trainer",
        resume=None,
        on_checkpoint=None,
        on_log=lambda _: None,
    )
    print(f"{week.window}: task loss {metrics.task_loss:.3f}, {metrics.seconds:.1f} s", flush=True)


def _examples(settings: Settings, loaded: Any, source: Path, window: Any, work: Path) -> Any:
    """The training examples of one window of the file; without a window (the anchor file) of all of it."""
    from learning_engine.feedback import snapshot
    from learning_engine.feedback.dataset import encode
    from learning_engine.feedback.source import FileSource, read
    from learning_engine.steps.anchor import ALL_TIME, hold_out

    target = work / "snapshot.parquet"
    batches = read(FileSource(source), window or ALL_TIME, settings.feedback)
    snapshot.write(batches, target, feedback=settings.feedback, heldout_fraction=settings.dataset.heldout_fraction)
    if window is None:
        hold_out(settings, target)
    return encode(target, loaded.tokenizer, settings.dataset, heldout=False).examples


def main() -> None:
    os.nice(10)  # the weekly DAG has priority
    target, world, feedback = Path(sys.argv[1]), WORLDS[sys.argv[2]], Path(sys.argv[4])
    weeks, matrices = world.weeks(datetime.fromisoformat(sys.argv[3])), {}
    for name in world.other_ways:
        settings = changed(load(), OTHER_WAYS[name])
        with TemporaryDirectory() as work:
            matrices[name] = run(settings, world.base_exam(), weeks, feedback, Path(work))
    target.write_text(json.dumps(matrices))


if __name__ == "__main__":
    main()
