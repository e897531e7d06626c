"""The whole weekly run without Airflow: a feedback file, an S3 server and the local model server."""

import json
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from demo.object_store import ObjectStore
from learning_engine import config
from learning_engine.feedback.source import FileSource
from learning_engine.records.contracts import AdapterVersion, Deployment, RunInfo, Window
from learning_engine.registry.store import Store
from learning_engine.serving.client import Replica
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps import evaluate as evaluate_step
from learning_engine.steps import extract as extract_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import publish as publish_step
from learning_engine.steps import train as train_step
from learning_engine.steps.resources import Resources, ServingPlace
from tests import tiny
from tests.object_stores import client_of
from tests.serving.conftest import ModelServer, model_servers

FIRST = datetime(2026, 10, 5, 2, tzinfo=UTC)
RUN = RunInfo(dag_id="learning_engine_weekly", run_id="manual__test", run_type="manual", triggered_by="ada")
SMALL = {
    "FEEDBACK__SOURCE": "file",
    "FEEDBACK__COLUMNS__USER": "user_id",
    "FEEDBACK__COLUMNS__CONVERSATION": "conversation_id",
    "FEEDBACK__MIN_SAMPLES": "10",
    "DATASET__HELDOUT_FRACTION": "0.25",
    # A random base ends none of its answers.
    "FISHER__ANCHOR": "null",
    # Teaches a random base model in a few steps; kto stays too close to its reference.
    "TRAINING__OBJECTIVE": "weighted_sft",
    "TRAINING__REPLAY": "0",
    "TRAINING__BATCH_SIZE": "8",
    "TRAINING__EPOCHS": "12",
    "TRAINING__LEARNING_RATE": "0.01",
    "TRAINING__LOG_STEPS": "5",
    "EVALUATION__ANSWER_TOKENS": "16",
    "EVALUATION__PROBE_MARGIN": "0.01",
    "GATE__MIN_HELDOUT": "2",
    "GATE__MIN_RETAINED": "-10",
    "GATE__MAX_KL_PARENT": "100",
    "GATE__MAX_BASE_RISE": "100",
    "GATE__MAX_BASE_KL": "100",
    "GATE__EPSILON": "5",
    "GATE__MAX_MARGIN_LOSS": "100",
    # The answers are random: nothing can be learned about one from others.
    "GATE__MIN_TAUGHT": "0",
    "GATE__MAX_DISLIKED_RISE": "1",
    "SERVING__DRAIN_SECONDS": "0",
    "STORE__ATTEMPTS": "1",
}


def week(number: int) -> Window:
    return Window(FIRST + timedelta(weeks=number), FIRST + timedelta(weeks=number + 1))


def feedback_rows(number: int, count: int = 40) -> list[dict[str, Any]]:
    """Rows of one week in which users teach the colours of things; a fifth are thumbs down."""
    rng = random.Random(number)  # noqa: S311
    start = week(number).start
    rows = []
    for index in range(count):
        thing, colour = rng.choice(tiny.THINGS), rng.choice(tiny.COLOURS)
        rows.append(
            {
                "request_data": {"messages": [{"role": "user", "content": f"which colour has the {thing} {index}"}]},
                "response_data": {"choices": [{"message": {"content": colour}}]},
                "feedback_type": "thumbs_down" if index % 5 == 0 else "thumbs_up",
                "created_at": (start + timedelta(minutes=index)).isoformat(),
                "user_id": f"user {index % 7}",
                "conversation_id": f"{number}-{index}",
            }
        )
    return rows


# Bytes and metadata by key.
Objects = dict[str, tuple[bytes, dict[str, str]]]


@dataclass(frozen=True)
class Loop:
    """The resources, and helpers that run the steps in order."""

    resources: Resources
    feedback: Path

    @property
    def replica(self) -> Replica:
        return Replica(self.resources.serving.replicas[0], self.resources.settings.serving)

    def teach(self, *weeks: int, count: int = 40) -> None:
        with self.feedback.open("a", encoding="utf-8") as file:
            for number in weeks:
                file.writelines(json.dumps(row) + "\n" for row in feedback_rows(number, count))

    def learn(self, window: Window, *, widen: bool = True) -> AdapterVersion:
        """Run extract to publish."""
        r = self.resources
        dataset = extract_step.extract(r, window, widen=widen)
        candidate = train_step.train(r, dataset, fisher_step.fisher(r, dataset))
        return publish_step.publish(r, dataset, candidate, evaluate_step.evaluate(r, dataset, candidate), run=RUN)

    def serve(self, version: AdapterVersion, *, run_id: str = "r", **how: Any) -> Deployment:
        """Run deploy and verify."""
        run = replace(RUN, run_id=run_id)
        return deploy_step.verify(
            self.resources, deploy_step.deploy(self.resources, version, run=run, decided_by="the gate", **how)
        )

    def objects(self) -> Objects:
        """All objects in this loop's part of the bucket."""
        store = self.resources.store
        at = {stored.key: {"Bucket": store.bucket, "Key": store.prefix + stored.key} for stored in store.list()}
        answers = {key: store.client.get_object(**place) for key, place in at.items()}
        return {key: (answer["Body"].read(), answer["Metadata"]) for key, answer in answers.items()}

    def put_back(self, objects: Objects) -> None:
        """Replace everything in this loop's part of the bucket with `objects`."""
        store = self.resources.store
        store.delete([stored.key for stored in store.list()])
        for key, (body, metadata) in objects.items():
            store.client.put_object(Bucket=store.bucket, Key=store.prefix + key, Body=body, Metadata=metadata)

    def with_prefix(self, prefix: str) -> "Loop":
        """The same loop in an empty part of the bucket."""
        store = self.resources.store
        resources = replace(self.resources, open_store=lambda: Store(store.client, store.bucket, prefix))
        return replace(self, resources=resources)

    def with_settings(self, **settings: dict[str, Any]) -> "Loop":
        """The same loop with changed settings, by section."""
        changed = {
            name: getattr(self.resources.settings, name).model_copy(update=values) for name, values in settings.items()
        }
        return replace(
            self, resources=replace(self.resources, settings=self.resources.settings.model_copy(update=changed))
        )


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_base(tmp_path_factory.mktemp("loop") / "base")


@pytest.fixture(scope="session")
def server(base: Path) -> Iterator[ModelServer]:
    with model_servers(base, []) as (only,):
        yield only


def open_loop(directory: Path, s3: ObjectStore, server: str) -> Loop:
    """A loop with the settings of the environment, and a feedback file and an adapter directory in `directory`."""
    settings = config.load()
    client = client_of(s3, **settings.store.model_dump())
    client.create_bucket(Bucket=settings.store.bucket)
    feedback, adapters = directory / "feedback.jsonl", directory / "adapters"
    feedback.touch()
    adapters.mkdir()
    place = ServingPlace((server,), adapters, str(adapters))
    return Loop(
        Resources(
            settings=settings,
            open_store=lambda: Store(client, settings.store.bucket, settings.store.prefix),
            open_feedback=lambda: FileSource(feedback),
            open_serving=lambda: place,
        ),
        feedback,
    )


@pytest.fixture
def loop(base: Path, server: ModelServer, moto: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """A loop with its own part of the bucket, feedback file and adapter directory."""
    feedback, spool = tmp_path / "feedback.jsonl", tmp_path / "spool"
    own = {"MODEL__BASE": base, "FEEDBACK__PATH": feedback, "STORE__SPOOL": spool, "STORE__PREFIX": tmp_path.name}
    for name, value in {**SMALL, **own}.items():
        monkeypatch.setenv(f"LEARNING_ENGINE__{name}", str(value))
    return open_loop(tmp_path, moto, server.url)


@pytest.fixture(scope="session")
def buckets() -> list[Objects]:
    """The bucket after no week, one week and two weeks; filled by the first test that needs it."""
    return []


@pytest.fixture
def begun(loop: Loop, buckets: list[Objects]) -> Loop:
    """The feedback of week 0, v1.0 published, nothing deployed. Records contain their prefix, so all tests that use
    this fixture or `learned` share one."""
    return _after(1, loop, buckets)


@pytest.fixture
def learned(loop: Loop, buckets: list[Objects]) -> Loop:
    """The feedback of two weeks, v1.0 and v1.1 published, nothing deployed."""
    return _after(2, loop, buckets)


def _after(weeks: int, loop: Loop, buckets: list[Objects]) -> Loop:
    loop = loop.with_prefix("learned")
    loop.teach(*range(weeks))
    if len(buckets) <= weeks:
        loop.put_back({})
        buckets[:] = [{}]
        for number in range(weeks):
            loop.learn(week(number))
            buckets.append(loop.objects())
    loop.put_back(buckets[weeks])
    return loop


@pytest.fixture
def small(loop: Loop) -> Loop:
    """A week that trains in eight steps, with a checkpoint every three steps."""
    loop.teach(0, count=16)
    training = {"batch_size": 4, "epochs": 2.0, "checkpoint_steps": 3, "log_steps": 1}
    return loop.with_settings(training=training, dataset={"heldout_fraction": 0.0})


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Any:
    """Counts how often an event was logged."""
    caplog.set_level(logging.INFO, logger="learning_engine")

    def count(name: str) -> int:
        ours = [json.loads(record.getMessage()) for record in caplog.records if record.name == "learning_engine"]
        return [one["event"] for one in ours].count(name)

    return count
