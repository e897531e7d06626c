"""The task `fisher`: Fisher information of a version, measured once and stored in the bucket.

It tells training which weight changes would damage what earlier versions learned (online EWC):
F(v) = F measured on v's own likes at v's weights, scaled as every version's (see `learning.scale`), + γ · F(parent of
v), down to the base model's Fisher on the anchor.
A version without likes has nothing of its own to protect: F(v) = F(parent of v).
"""

from pathlib import Path
from typing import TYPE_CHECKING

from learning_engine import archive, telemetry
from learning_engine.config import digest
from learning_engine.errors import IntegrityError, ModelError
from learning_engine.records.contracts import MEASURED, SCALED, AdapterVersion, Dataset, FisherRecord, Window
from learning_engine.registry import manifest
from learning_engine.registry.store import NotFound
from learning_engine.steps import anchor
from learning_engine.steps.resources import Resources, adapter_of, read_window, snapshot_of, workspace

if TYPE_CHECKING:
    from learning_engine.learning.information import FisherInformation
    from learning_engine.learning.model import Loaded


def fisher(resources: Resources, dataset: Dataset) -> FisherRecord:
    """The Fisher information that protects the run's parent; computed once per version."""
    with telemetry.step("fisher", guards=dataset.parent or "base") as result:
        if not resources.settings.ewc.lambda_:
            note = "not measured: with ewc.lambda 0 nothing is protected"
            result.update(note=note)
            return _empty_record(resources, guards=dataset.parent or "base", note=note)
        parent = resources.registry.get(dataset.parent) if dataset.parent else None
        record = get_or_measure(resources, parent)
        result.update(uri=record.uri, sequences=record.n_sequences, trace=record.trace, note=record.note)
        return record


def fisher_of(resources: Resources, version: str, *, window: Window | None) -> FisherRecord:
    """Measure the Fisher information of a published version again, on its own window or on another one."""
    with telemetry.step("fisher", guards=version):
        return get_or_measure(resources, resources.registry.get(version), window=window, again=True)


def get_or_measure(
    resources: Resources, version: AdapterVersion | None, *, window: Window | None = None, again: bool = False
) -> FisherRecord:
    """The Fisher information that protects `version` (None: the base model), measured if the bucket has none.

    `window` measures on feedback other than the version's own; `again` replaces the stored measurement.
    """
    if version is None and resources.settings.fisher.anchor is None:
        return _empty_record(resources, guards="base", note=_unprotected(resources))
    folder = version.version if version else _base_folder(resources)
    if not again and (stored := _stored(resources, folder)):
        return stored
    earlier = None
    if version is not None:
        # The parent comes first, so that only one set of factors is in memory when a whole chain is measured.
        earlier = get_or_measure(resources, resources.registry.get(version.parent) if version.parent else None)
    with workspace() as work:
        information, note = _measure(resources, version, work, window)
        if earlier is not None and earlier.uri is not None:
            information = _accumulate(resources, information, load(resources, earlier, work / "earlier"), folder)
        if information is None:
            return _empty_record(resources, guards=folder, note=note)
        return _store(resources, folder, information, note, work)


def load(resources: Resources, record: FisherRecord, path: Path) -> "FisherInformation":
    """Download the Fisher information of `record` to `path` and load it; checks digest and identity."""
    from learning_engine.learning import information, model, scale

    settings = resources.settings
    resources.store.get_file(resources.store.key(str(record.uri)), path, str(record.sha256))
    found = information.load(
        path,
        base_model=settings.model.base,
        base_revision=model.base_revision(settings.model),
        lora=resources.shape,
        kind=record.kind,
        labels=record.labels,
        smoothing=record.smoothing,
    )
    return scale.scaled(found) if found.units == MEASURED else found


def load_trainable(resources: Resources, version: AdapterVersion | None, work: Path) -> "Loaded":
    """The base model with the adapter of `version`, or with a new one.

    Raises ModelError unless the base model is the one that `version` was trained on.
    """
    from learning_engine.learning import model

    settings = resources.settings
    adapter = adapter_of(resources, version, work) if version else None
    loaded = model.load(settings.model, settings.lora, adapter=adapter, trainable=True, seed=settings.training.seed)
    if version is None:
        return loaded
    expected, found = (version.base_model, version.base_revision), (settings.model.base, loaded.revision)
    if expected != found:
        raise ModelError(
            f"Expected the base model of {version.version}, {expected[0]} at {expected[1]}, found {found[0]} at "
            f"{found[1]}: pin model.revision, or rename the changed base model to start a new major version."
        )
    return loaded


def _measure(
    resources: Resources, version: AdapterVersion | None, work: Path, window: Window | None
) -> tuple["FisherInformation | None", str]:
    """The information and a note on its data; None if the version's own data has no likes."""
    from learning_engine.feedback.dataset import encode
    from learning_engine.learning import fisher, memory, scale

    memory.limit(resources.settings.worker.gpu_memory_fraction)
    settings, snapshot = resources.settings, work / "guarded.parquet"
    note = ""
    if version is None:
        if not anchor.fetch(resources, snapshot):
            return None, _unprotected(resources)
        note = "measured on the anchor"
    elif window is not None:
        read_window(resources, window, snapshot)
        note = f"measured on {window}"
    elif not snapshot_of(resources, version, snapshot):
        note = "the snapshot was missing or corrupt; its window was read again from the source"
    loaded = load_trainable(resources, version, work)
    examples = encode(snapshot, loaded.tokenizer, settings.dataset, heldout=False).examples
    liked = examples.filter(lambda rating: rating > 0, input_columns="rating")
    if version is not None and window is None and not len(liked):
        return None, "this version has no liked row: only what earlier versions protect stays protected"
    guards = version.version if version else "base"
    measured = fisher.compute(loaded, liked, settings.fisher, seed=settings.training.seed, guards=guards)
    return scale.scaled(measured), note


def _accumulate(
    resources: Resources, new: "FisherInformation | None", old: "FisherInformation", guards: str
) -> "FisherInformation":
    from learning_engine.learning import fisher

    if new is None:
        return fisher.inherited(old, guards=guards)
    return fisher.accumulate(new, old, resources.settings.fisher)


def _store(resources: Resources, folder: str, information: "FisherInformation", note: str, work: Path) -> FisherRecord:
    from learning_engine.learning.fisher import fitted
    from learning_engine.learning.information import save

    path = work / "fisher.safetensors"
    save(fitted(information, resources.settings.fisher), path)
    sha256 = archive.sha256_file(path)
    # The file is named after its content, so a run that holds the record of an earlier measurement still finds it.
    key = manifest.fisher_key(folder, f"{sha256[:16]}.safetensors")
    resources.store.put_file(key, path)
    record = FisherRecord(
        guards=information.guards,
        kind=information.kind,
        labels=information.labels,
        smoothing=information.smoothing,
        units=information.units,
        uri=resources.store.uri(key),
        sha256=sha256,
        n_sequences=information.n_sequences,
        n_tokens=information.n_tokens,
        accumulated=list(information.accumulated),
        decay=information.decay,
        weight=information.weight,
        trace=information.trace,
        note=note,
    )
    resources.store.put_json(manifest.fisher_key(folder, manifest.FISHER_RECORD), record.to_json())
    return record


def _stored(resources: Resources, folder: str) -> FisherRecord | None:
    """The stored record, or None if it or its file is missing, corrupt, or measured with other settings."""
    try:
        record = resources.store.get_record(manifest.fisher_key(folder, manifest.FISHER_RECORD), FisherRecord)
        found = resources.store.digest(resources.store.key(str(record.uri)))
    except NotFound:
        return None
    except IntegrityError as error:
        telemetry.warning("fisher.record_altered", guards=folder, message=str(error))
        return None
    wanted = resources.settings.fisher
    expected = (wanted.structure, wanted.labels, wanted.smoothing_of_labels)
    if (record.kind, record.labels, record.smoothing) != expected:
        return None
    if found != record.sha256:
        telemetry.warning("fisher.altered", uri=record.uri, expected=record.sha256, found=found)
        return None
    return record


def _unprotected(resources: Resources) -> str:
    return f"nothing protects the base model: {anchor.why_none(resources)}"


def _base_folder(resources: Resources) -> str:
    settings = resources.settings
    what = {
        "anchor": anchor.identity(resources),
        "settings": {name: settings.fingerprint()[name] for name in ("model", "lora", "fisher", "dataset")},
        "seed": settings.training.seed,
    }
    return f"base-{digest(what)[:12]}"


def _empty_record(resources: Resources, *, guards: str, note: str) -> FisherRecord:
    wanted = resources.settings.fisher
    return FisherRecord(
        guards=guards,
        kind=wanted.structure,
        labels=wanted.labels,
        smoothing=wanted.smoothing_of_labels,
        units=SCALED,
        uri=None,
        sha256=None,
        n_sequences=0,
        n_tokens=0,
        note=note,
    )
