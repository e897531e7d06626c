"""The task `evaluate`: compare the candidate with its parent, its base model and every earlier window."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learning_engine import archive, telemetry
from learning_engine.errors import IntegrityError
from learning_engine.records import probe
from learning_engine.records.contracts import AdapterVersion, Candidate, Dataset
from learning_engine.records.report import Probes, Report
from learning_engine.registry import manifest
from learning_engine.registry.store import NotFound
from learning_engine.steps import anchor
from learning_engine.steps.resources import Resources, adapter_of, get_staged, workspace

if TYPE_CHECKING:
    from learning_engine.records.probe import Probe

Messages = list[dict[str, str]]


def evaluate(resources: Resources, dataset: Dataset, candidate: Candidate) -> Report:
    """Evaluate the candidate and return its report. Stages its probes and held-out rows next to it."""
    with telemetry.step("evaluate", run_key=candidate.run_key) as result, workspace() as work:
        report = _judge(resources, dataset, candidate, work)
        result.update(accepted=report.accepted, loss=report.loss, loss_parent=report.loss_parent)
        return report


def _judge(resources: Resources, dataset: Dataset, candidate: Candidate, work: Path) -> Report:
    from learning_engine.evaluation import evaluate, integrity, matrix, prompts, slices, superseded, taught, views
    from learning_engine.evaluation.earlier import Earlier
    from learning_engine.feedback import heldout as heldout_rows
    from learning_engine.feedback.dataset import encode
    from learning_engine.learning import memory
    from learning_engine.steps import content_rows

    settings, store = resources.settings, resources.store
    memory.limit(settings.worker.gpu_memory_fraction)
    path, heldout = work / "dataset.parquet", work / "heldout.parquet"
    get_staged(resources, dataset.uri, path, dataset.sha256)
    heldout_rows.split(path, heldout)

    ancestors = resources.registry.lineage(candidate.parent)
    # If the intended parent could not be continued, the candidate is still judged on that parent's windows.
    judged = resources.registry.lineage(next(iter(dataset.passed_over), candidate.parent))
    adapter = _unpack_candidate(resources, candidate, work)
    # Before the models are loaded: writing an anchor that the bucket lacks takes a base model of its own.
    anchored = anchor.fetch(resources, work / "anchor.parquet")
    view = views.load_views(
        settings.model,
        settings.lora,
        candidate=adapter,
        parent=adapter_of(resources, ancestors[0], work) if ancestors else None,
    )

    def encoded(file: Path) -> Any:
        return encode(file, view.tokenizer, settings.dataset, heldout=None).examples

    held = encoded(heldout)
    earlier, missing = _earlier_heldout(resources, judged, work)
    encoded_earlier = {version: encoded(file) for version, file in earlier.items()}
    trained = content_rows.of_training(path, view.tokenizer, settings.dataset)
    rated = [*trained, *content_rows.of_file(heldout, held, view.tokenizer)]
    parent = ancestors[0].report if ancestors else None
    of_earlier, gone = content_rows.of_earlier(earlier), superseded.rows(judged)
    measured = partial(
        evaluate.evaluate,
        views=view,
        heldout=held,
        content=content_rows.of_window(trained, heldout, held, view.tokenizer, max_rows=settings.evaluation.max_rows),
        users=dataset.users,
        earlier=Earlier(
            rows=encoded_earlier,
            places=of_earlier,
            best=matrix.best_of(judged),
            best_taught=taught.best(judged),
            superseded=gone,
            retained=parent.shares_retained() if parent else {},
            missing=missing,
        ),
        contradicted=content_rows.contradicted(rated, earlier, encoded_earlier, of_earlier, gone, view.tokenizer),
        anchor=_anchor(resources, view.tokenizer, work / "anchor.parquet") if anchored else None,
        history=matrix.rows_of(judged),
        parent=parent,
        prompts=prompts.renderable(
            view.tokenizer, prompts.read(settings.evaluation.prompts, limit=settings.evaluation.max_prompts)
        ),
        probe_candidates=_probe_candidates(heldout, held["row"][:]),
        gate=settings.gate,
        broken_weights=integrity.broken_weights(adapter, resources.shape),
        unservable=_unservable(resources),
        run_key=candidate.run_key,
        seed=settings.training.seed,
        known=slices.Known(
            window=heldout_rows.slices(heldout),
            earlier={version: heldout_rows.slices(file) for version, file in earlier.items()},
            best=slices.best(judged),
        ),
    )
    evaluation = memory.retry_with_smaller_batches(
        lambda at_once: measured(evaluation=settings.evaluation.model_copy(update={"batch_size": at_once})),
        batch_size=settings.evaluation.batch_size,
        what="judge the candidate",
        advice="Lower dataset.max_tokens or evaluation.answer_tokens, or set model.quantization.",
    )
    heldout_rows.mark(heldout, evaluation.taught, set(evaluation.judging))
    store.put_file(manifest.run_key(candidate.run_key, "heldout.parquet"), heldout)
    report = evaluation.report
    return dataclasses.replace(
        report,
        probes=_keep_probes(resources, candidate, evaluation.probes),
        notes=[
            *_passed_over(dataset, candidate),
            *candidate.training.notes,
            *report.notes,
        ],
    )


def _anchor(resources: Resources, tokenizer: Any, path: Path) -> Any:
    """The encoded rows of the anchor that are held out."""
    from learning_engine.feedback.dataset import encode

    return encode(path, tokenizer, resources.settings.dataset, heldout=True).examples


def _passed_over(dataset: Dataset, candidate: Candidate) -> list[str]:
    if not dataset.passed_over:
        return []
    names, parent = ", ".join(dataset.passed_over), candidate.parent or "the base model"
    return [
        f"The archive of {names} is missing or corrupt: this version continues {parent}, but is still judged on what "
        f"{names} had learned."
    ]


def _unpack_candidate(resources: Resources, candidate: Candidate, work: Path) -> Path:
    packed, directory = work / "candidate.tar.gz", work / "candidate"
    get_staged(resources, candidate.uri, packed, candidate.sha256)
    archive.unpack(packed, directory, max_bytes=resources.settings.serving.max_adapter_bytes)
    return directory


def _earlier_heldout(
    resources: Resources, ancestors: list[AdapterVersion], work: Path
) -> tuple[dict[str, Path], list[str]]:
    """The held-out sets of earlier windows by version, oldest first, and the versions with a missing or corrupt set."""
    found: dict[str, Path] = {}
    missing: list[str] = []
    for version in reversed(ancestors):
        path = work / f"heldout-{version.version}.parquet"
        try:
            resources.store.get_file(manifest.heldout_key(version.version), path)
            found[version.version] = path
        except (NotFound, IntegrityError) as error:
            telemetry.event("evaluate.heldout_missing", version=version.version, message=str(error))
            missing.append(version.version)
    return found, missing


def _column(heldout: Path, name: str) -> list[Any]:
    import pyarrow.parquet

    values: list[Any] = pyarrow.parquet.read_table(heldout, columns=[name])[name].to_pylist()
    return values


def _probe_candidates(heldout: Path, kept: list[int]) -> list[Messages]:
    """The prompts of the rows `kept`, liked answers first, because the candidate probably answers those differently.

    Rows that encoding dropped cannot be probes: their prompts forge a turn, or the template refuses them.
    """
    messages, ratings = _column(heldout, "messages"), _column(heldout, "rating")
    return [messages[row] for row in sorted(kept, key=lambda row: -ratings[row])]


def _keep_probes(resources: Resources, candidate: Candidate, probes: "list[Probe]") -> Probes | None:
    if not probes:
        return None
    data = probe.dump(probes)
    key = manifest.run_key(candidate.run_key, "probes.json")
    sha256 = resources.store.put_bytes(key, data)
    return Probes(
        uri=resources.store.uri(key),
        sha256=sha256,
        count=len(probes),
        smallest_margin=min(found.margin for found in probes),
    )


def _unservable(resources: Resources) -> str | None:
    """Why the server would reject an adapter of this shape, or None."""
    limit, rank = resources.settings.serving.max_lora_rank, resources.shape.rank
    return None if rank <= limit else f"Rank {rank} is above serving.max_lora_rank {limit}."
