"""One scrape: its requests to the store, its handling of unreadable records, and the set of metrics."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

import learning_engine
from demo.object_store import ObjectStore
from learning_engine.errors import StoreError
from learning_engine.feedback.steering import QUARANTINED, VERDICTS
from learning_engine.registry import manifest
from learning_engine.registry.store import Store
from learning_engine.web import metric_definitions, metrics, training_metrics
from tests.object_stores import client_of
from tests.registry.test_store import corrupt
from tests.web.populated_bucket import DURATIONS, labelled, populate, resources_of, scraped, value

PACKAGE = Path(learning_engine.__file__).parent


@pytest.fixture
def mock_bucket(mock_store: Store) -> Store:
    return populate(mock_store)


DAMAGED_KEYS: dict[str, Callable[[Store], str]] = {
    "metadata": lambda store: manifest.adapter_key("v1.1", "metadata.json"),
    "ledger": lambda store: next(stored.key for stored in store.list(manifest.LEDGER)),
    "progress": lambda store: manifest.run_key("now", "progress.json"),
}
AFFECTED_METRIC = {"metadata": "gate_verdicts_total", "ledger": "deployments_total", "progress": "training_step"}
AREA = {"metadata": "adapters", "ledger": "deployments", "progress": "runs"}


@pytest.mark.parametrize(("kind", "harm"), zip(DAMAGED_KEYS, ("altered", "no record", "no JSON"), strict=True))
def test_an_unreadable_record_is_counted_and_affects_only_its_metrics(mock_bucket: Store, kind: str, harm: str) -> None:
    before = scraped(mock_bucket)
    assert set(labelled(before, "unreadable_objects").values()) == {0}
    key = DAMAGED_KEYS[kind](mock_bucket)
    if harm == "altered":
        corrupt(mock_bucket, key, b"another")
    else:
        mock_bucket.put_bytes(key, b'{"record": "Other"}' if harm == "no record" else b"{")
    found = scraped(mock_bucket)
    counted = labelled(found, "unreadable_objects")
    assert counted == {(area,): int(area == AREA[kind]) for area in ("adapters", "deployments", "runs")}
    assert {name for name, _ in before} - {name for name, _ in found} >= {AFFECTED_METRIC[kind]}
    assert value(found, "newest_task_loss", version="v1.2") == 1.2
    assert labelled(found, "live") == {("v1.0-0",): 1}


def test_no_live_metrics_if_the_newest_ledger_entry_is_unreadable(mock_bucket: Store) -> None:
    corrupt(mock_bucket, sorted(stored.key for stored in mock_bucket.list(manifest.LEDGER))[-1], b"another")
    found = scraped(mock_bucket)
    assert not {name for name, _ in found if name.startswith(("live", "swap"))}


def test_a_missing_live_archive_is_exported_as_zero(mock_bucket: Store) -> None:
    mock_bucket.delete([manifest.adapter_key("v1.0", "adapter.tar.gz")])
    assert value(scraped(mock_bucket), "live_archive_present") == 0


def test_a_bucket_that_cannot_be_listed_raises(moto: ObjectStore) -> None:
    nowhere = Store(client_of(moto), "no-such-bucket-0123")
    with pytest.raises(StoreError):
        metrics.render(resources_of(nowhere), {})


def test_a_store_that_stops_answering_raises(mock_bucket: Store) -> None:
    def stop_answering(**_: Any) -> None:
        raise ReadTimeoutError(endpoint_url="the store")

    mock_bucket.client.meta.events.register("before-call.s3.GetObject", stop_answering)
    with pytest.raises(StoreError, match="ReadTimeoutError"):
        metrics.render(resources_of(mock_bucket), {})


@pytest.fixture
def requests(mock_bucket: Store) -> Iterator[list[str]]:
    """The operations sent to the store, with their keys."""
    asked: list[str] = []

    def note(model: Any, params: dict[str, Any], **_: Any) -> None:
        asked.append(f"{model.name} {params['url_path'].partition('models/a/')[2]}".strip())

    hooks = mock_bucket.client.meta.events
    hooks.register("before-call.s3", note)
    yield asked
    hooks.unregister("before-call.s3", note)


def test_a_scrape_lists_once_and_reads_only_mutable_records(mock_bucket: Store, requests: list[str]) -> None:
    resources = resources_of(mock_bucket)
    metrics.render(resources, {})
    first = list(requests)
    assert [one for one in first if one.startswith("List")] == ["ListObjectsV2"]
    assert len(first) == 1 + 3 + 3 + 1, "versions, ledger entries, progress"
    requests.clear()
    metrics.render(resources, {})
    assert requests == ["ListObjectsV2", f"GetObject {manifest.run_key('now', 'progress.json')}"]


def test_every_emitted_metric_is_described_once(mock_bucket: Store) -> None:
    described = {metric.name: metric for metric in metrics.described()}
    assert len(described) == len(metrics.described())
    for metric in described.values():
        assert re.fullmatch(r"learning_engine_[a-z_]+", metric.name)
    emitted = list(metrics.BucketCollector(resources_of(mock_bucket), DURATIONS).collect())
    assert {metric.name for metric in emitted} == set(described)
    for metric in emitted:
        assert metric.documentation == described[metric.name].documentation


def test_labels_cover_every_reason_and_rule() -> None:
    def named(pattern: str, *files: str) -> set[str]:
        return {name for file in files for name in re.findall(pattern, (PACKAGE / file).read_text())}

    reasons = named(r'(?:Unreadable|Dropped)\(\s*"(\w+)"', "feedback/clean.py", "feedback/shapes.py")
    reasons |= named(r'self\.dropped\["(\w+)"\]', "feedback/dataset.py") | set(VERDICTS[1:])
    assert {VERDICTS[verdict] for verdict in QUARANTINED} | {"no_prompt", "zero_weight"} <= reasons
    assert reasons == training_metrics.REASONS
    rules = named(r'(?:Rule|_drift)\(\s*"(\w+)"', "evaluation/gate.py", "evaluation/kept_rules.py")
    assert rules == metric_definitions.RULES


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, learning_engine.web.metrics; print(*{name.split('.')[0] for name in sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert not {"torch", "pyarrow", "boto3", "fastapi", "airflow", "transformers"} & set(found.stdout.split())
