"""Two weekly runs that were deployed, a third run, and a reset to the moment before any of its steps."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

from demo.object_store import ROOT, ObjectStore
from learning_engine import config
from learning_engine.feedback.source import FileSource
from learning_engine.records.contracts import AdapterVersion, Candidate, Dataset, Deployment, FisherRecord
from learning_engine.records.report import Report
from learning_engine.registry import manifest
from learning_engine.registry.store import Store
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps import evaluate as evaluate_step
from learning_engine.steps import extract as extract_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import publish as publish_step
from learning_engine.steps import train as train_step
from learning_engine.steps.resources import Resources, ServingPlace
from tests.object_stores import client_of
from tests.serving.conftest import ModelServer
from tests.steps.conftest import RUN, SMALL, Loop, week

WEEK = 2
TIMEOUTS = {"connect_timeout_seconds": 2, "read_timeout_seconds": 20, "attempts": 2}


@dataclass(frozen=True)
class Moment:
    """The objects in the bucket (ETag, bytes and metadata by key), the adapters loaded on the server, and a copy of the
    adapter directory."""

    objects: dict[str, tuple[str, bytes, dict[str, str]]]
    loaded: list[str]
    adapters: Path


class Weeks:
    """`before`: the moment just before each step of the third week."""

    before: dict[str, Moment]
    dataset: Dataset
    fisher: FisherRecord
    candidate: Candidate
    report: Report
    version: AdapterVersion
    deployment: Deployment

    def __init__(self, store: ObjectStore, server: ModelServer, base: Path, directory: Path) -> None:
        self.server, self.directory, self.s3 = server, directory, store
        self.adapters, self.feedback = directory / "adapters", directory / "feedback.jsonl"
        self.adapters.mkdir()
        own = {
            "MODEL__BASE": base,
            "FEEDBACK__PATH": self.feedback,
            "STORE__BUCKET": "faults",
            "STORE__PREFIX": "models/a",
            "STORE__SPOOL": directory / "spool",
            "TRAINING__CHECKPOINT_STEPS": 20,
            "EVALUATION__PROBES": 1,
            **{f"STORE__{name.upper()}": value for name, value in TIMEOUTS.items()},
        }
        self.environment = {f"LEARNING_ENGINE__{name}": str(value) for name, value in (SMALL | own).items()}
        with mock.patch.dict(os.environ, self.environment):
            self.settings = config.load()
        self.client = client_of(store, **TIMEOUTS)
        self.client.create_bucket(Bucket=self.settings.store.bucket)
        self.store = Store(self.client, self.settings.store.bucket, self.settings.store.prefix)
        self._learn()

    def loop(self, client: Any = None) -> Loop:
        """The loop of a new worker, with empty caches; it accesses the store through `client`, if given."""
        return Loop(
            Resources(
                settings=self.settings,
                open_store=lambda: Store(client or self.client, self.store.bucket, self.store.prefix),
                open_feedback=lambda: FileSource(self.feedback),
                open_serving=lambda: ServingPlace((self.server.url,), self.adapters, str(self.adapters)),
            ),
            self.feedback,
        )

    def _learn(self) -> None:
        loop = self.loop()
        loop.teach(*range(WEEK + 1))
        for number in range(WEEK):
            version = loop.learn(week(number))
            assert version.accepted, version.report.rules
            loop.serve(version, run_id=f"week {number}")
        self.before = {}
        r = loop.resources
        for name in STEPS:
            self.before[name] = self.now(name)
            setattr(self, MAKES[name], STEPS[name](self, r))

    def now(self, name: str) -> Moment:
        """The current moment; `name` names its copy of the adapter directory."""
        objects = {}
        for stored in self.store.list():
            answer = self.client.get_object(Bucket=self.store.bucket, Key=self.store.prefix + stored.key)
            objects[stored.key] = (answer["ETag"], answer["Body"].read(), answer["Metadata"])
        copy = shutil.copytree(self.adapters, self.directory / f"before {name}", dirs_exist_ok=True)
        return Moment(objects, self.server.replica.models(), copy)

    def back_to(self, moment: Moment) -> None:
        at = {"Bucket": self.store.bucket}
        pages = self.client.list_objects_v2(**at)
        present = {entry["Key"]: entry["ETag"] for entry in pages.get("Contents", ())}
        wanted = {self.store.prefix + key: value for key, value in moment.objects.items()}
        for key in present.keys() - wanted.keys():
            self.client.delete_object(**at, Key=key)
        for key, (tag, body, metadata) in wanted.items():
            if present.get(key) != tag:
                self.client.put_object(**at, Key=key, Body=body, Metadata=metadata)
        shutil.rmtree(self.adapters)
        shutil.copytree(moment.adapters, self.adapters)
        shutil.rmtree(self.settings.store.spool, ignore_errors=True)
        replica = self.server.replica
        for name in set(replica.models()) - set(moment.loaded):
            replica.unload(name)
        for name in moment.loaded:
            if name not in replica.models():
                replica.load(name, str(self.adapters / name))
        assert sorted(replica.models()) == sorted(moment.loaded)

    @property
    def name(self) -> str:
        """The server name of the third week's version."""
        return manifest.server_name(self.version.version, self.version.sha256)


RUN_OF_WEEK = replace(RUN, run_id=f"week {WEEK}")
MAKES = {
    "extract": "dataset",
    "fisher": "fisher",
    "train": "candidate",
    "evaluate": "report",
    "publish": "version",
    "deploy": "deployment",
    "verify": "verified",
}
# The steps of the third week, each applied to the results of the previous ones.
STEPS: dict[str, Any] = {
    "extract": lambda w, r: extract_step.extract(r, week(WEEK), widen=False),
    "fisher": lambda w, r: fisher_step.fisher(r, w.dataset),
    "train": lambda w, r: train_step.train(r, w.dataset, w.fisher),
    "evaluate": lambda w, r: evaluate_step.evaluate(r, w.dataset, w.candidate),
    "publish": lambda w, r: publish_step.publish(r, w.dataset, w.candidate, w.report, run=RUN_OF_WEEK),
    "deploy": lambda w, r: deploy_step.deploy(r, w.version, run=RUN_OF_WEEK, decided_by="the gate"),
    "verify": lambda w, r: deploy_step.verify(r, w.deployment),
}


class Worker:
    """The process that runs tests.faults.worker."""

    def __init__(self, process: "subprocess.Popen[str]", weeks: Weeks) -> None:
        self.process, self.weeks = process, weeks

    def do(self, step: str, *, die_at: int | None = None, **arguments: Any) -> dict[str, Any]:
        weeks = self.weeks
        order = {
            "step": step,
            "arguments": arguments,
            "die_at": die_at,
            "environment": weeks.environment,
            "store": {
                "endpoint_url": weeks.s3.endpoint,
                "region_name": weeks.s3.region,
                "aws_access_key_id": weeks.s3.access_key,
                "aws_secret_access_key": weeks.s3.secret_key,
            },
            "serving": {"replicas": [weeks.server.url], "adapter_dir": str(weeks.adapters)},
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@contextmanager
def workers(weeks: Weeks) -> Iterator[Worker]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.worker"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'plugins'}{os.pathsep}{ROOT}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Worker(process, weeks)
    finally:
        process.kill()
        process.wait()
