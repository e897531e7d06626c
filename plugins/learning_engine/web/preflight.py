"""`GET /preflight`: what a run over a window would find, without starting one."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Query

from learning_engine.airflow import windows
from learning_engine.config import Settings
from learning_engine.records.contracts import AdapterVersion, Window
from learning_engine.registry import manifest
from learning_engine.steps import enough as enough_step
from learning_engine.steps import extract as extract_step
from learning_engine.steps.extract import Survey
from learning_engine.steps.resources import Resources, workspace
from learning_engine.web import subprocess_read
from learning_engine.web.adapters import ListedVersion, published
from learning_engine.web.airflow_api import OpenAirflow
from learning_engine.web.auth import SeesRuns, reader
from learning_engine.web.backend import Backend, OpenBackend
from learning_engine.web.concurrency import ConcurrencyLimit
from learning_engine.web.problems import Refused, responses
from learning_engine.web.request_models import Moment
from learning_engine.web.store_threads import STORE_THREADS, Router
from learning_engine.web.training import training_status
from learning_engine.web.training_models import CountGate, MemoryFit, Preflight, TrainingRun

# Each request reads a whole window of feedback in a subprocess.
READ_LIMIT = ConcurrencyLimit(2)
GPU_TASKS = ("fisher", "train", "evaluate")
RECENT_RUNS = 5
# The settings that a training's peak memory depends on.
MEMORY_SETTINGS = {
    "model": ("dtype", "quantization", "attention"),
    "lora": ("rank", "target_modules"),
    "dataset": ("max_tokens",),
    "training": ("objective", "batch_size", "precision", "gradient_checkpointing"),
}

router = Router(tags=["training"], dependencies=[Depends(reader)], responses=responses(401))
Bound = Annotated[Moment | None, Query(description="With a time zone; give both, or neither.")]


@router.get("/preflight", responses=responses(422, 503))
async def preflight(
    airflow: OpenAirflow, backend: OpenBackend, sees_runs: SeesRuns, start: Bound = None, end: Bound = None
) -> Preflight:
    """Rows, drop reasons, count gate, memory and time of a window; default: the last complete interval."""
    asked, explicit = _window(backend, start, end)
    async with READ_LIMIT():
        found, listed = await STORE_THREADS.run(_survey, backend, asked, widen=not explicit)
    versions = [one.version for one in listed]
    status = await training_status(airflow, backend, sees_runs, recent=RECENT_RUNS)
    minutes, by = _minutes(status.recent, {version.version: version for version in versions}, found.counts.rows)
    counts = found.counts
    count = enough_step.enough(backend.settings, rows=counts.rows, heldout=counts.heldout, users=counts.users)
    carried = backend.settings.window.carry_over and not count.passed
    return Preflight(
        window=found.window,
        asked=asked,
        parent=found.parent.version if found.parent else None,
        overlapping=[one.version.version for one in listed if _overlaps(one, found.window)],
        read=counts.read,
        rows=counts.rows,
        thumbs_up=counts.thumbs_up,
        thumbs_down=counts.thumbs_down,
        users=counts.users,
        conversations=counts.conversations,
        tokens=counts.tokens,
        dropped=counts.dropped,
        quarantined=counts.quarantined,
        count_gate=CountGate(
            passed=count.passed,
            needed=backend.settings.feedback.min_samples,
            found=counts.rows,
            why=count.why + ("; a scheduled run carries them into the next window" if carried else ""),
        ),
        memory=_memory(backend.settings, versions),
        gpu_minutes=minutes,
        gpu_minutes_by=by,
    )


def _window(backend: Backend, start: datetime | None, end: datetime | None) -> tuple[Window, bool]:
    now = datetime.now(UTC)
    if start is None and end is None:
        return windows.last_complete(now, backend.settings.dag), False
    if start is None or end is None:
        raise Refused(422, "Expected both start and end, or neither, found one: give the other as well.")
    if start >= end or end > now:
        raise Refused(
            422,
            f"Expected a start before an end in the past, found {start.isoformat()} and {end.isoformat()}: "
            "feedback that arrives later would not be counted.",
        )
    return Window(start, end), True


def _survey(backend: Backend, window: Window, *, widen: bool) -> tuple[Survey, list[ListedVersion]]:
    resources: Resources = backend.resources()
    with workspace() as work:
        found = extract_step.survey(
            resources, window, work / "snapshot.parquet", widen=widen, read=subprocess_read.read_window
        )
    listed, _ = published(resources)
    return found, listed


def _overlaps(one: ListedVersion, window: Window) -> bool:
    theirs = one.version.window
    continuable = one.version.accepted and manifest.REVOKED not in one.names
    return continuable and theirs.start < window.end and window.start < theirs.end


def _memory(settings: Settings, versions: list[AdapterVersion]) -> MemoryFit:
    """An estimate from the newest version with the same base model and memory-relevant settings."""

    mine = settings.fingerprint()

    def alike(version: AdapterVersion) -> bool:
        theirs = version.config
        return version.base_model == settings.model.base and all(
            theirs.get(section, {}).get(name) == mine[section][name]
            for section, names in MEMORY_SETTINGS.items()
            for name in names
        )

    last = next((version for version in versions if alike(version)), None)
    if last is None:
        why = "no version has been trained yet with this base model and these memory-relevant settings"
        return MemoryFit(fits=None, expected_bytes=None, available_bytes=None, why=why)
    training = last.training
    expected, available = training.peak_memory_bytes, training.device_memory_bytes
    if available is None:
        why = f"{last.version} used {expected / 2**30:.1f} GiB on {training.device}, whose available memory is unknown"
        return MemoryFit(fits=None, expected_bytes=expected, available_bytes=None, why=why)
    why = f"{last.version} used {expected / 2**30:.1f} of {available / 2**30:.1f} GiB on {training.device}"
    return MemoryFit(fits=expected <= available, expected_bytes=expected, available_bytes=available, why=why)


def _minutes(runs: list[TrainingRun], versions: dict[str, AdapterVersion], rows: int) -> tuple[float | None, list[str]]:
    """An estimate from the seconds per row that fisher, train and evaluate took in the last runs."""
    seconds, learned, by = 0.0, 0, list[str]()
    for run in runs:
        version = versions.get(run.version or "")
        took = [task.seconds for task in run.tasks if task.task in GPU_TASKS and task.seconds is not None]
        if version is None or len(took) < len(GPU_TASKS):
            continue
        seconds, learned = seconds + sum(took), learned + version.dataset.rows
        by.append(version.version)
    return (round(seconds / learned * rows / 60, 2) if learned else None), by
