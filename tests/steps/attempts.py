"""The steps up to training, run one by one, and what interrupts them."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from learning_engine.records.contracts import Candidate, Dataset
from learning_engine.steps import extract as extract_step
from learning_engine.steps import fisher as fisher_step
from learning_engine.steps import train as train_step
from tests.steps.conftest import Loop, week


class Killed(BaseException):
    """Stands for a killed worker: a BaseException, so that no step catches it."""


class KillAt(logging.Handler):
    """Kills the training when it logs this step or a later one."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def emit(self, record: logging.LogRecord) -> None:
        fields = json.loads(record.getMessage())
        if fields["event"] == "train.progress" and fields["step"] >= self.step:
            raise Killed


def prepare(loop: Loop) -> Dataset:
    return extract_step.extract(loop.resources, week(0), widen=False)


def train(loop: Loop, dataset: Dataset) -> Candidate:
    return train_step.train(loop.resources, dataset, fisher_step.fisher(loop.resources, dataset))


def keys(loop: Loop, prefix: str = "") -> dict[str, Any]:
    return {item.key: item.modified for item in loop.resources.store.list(prefix)}


def spool_of(loop: Loop, dataset: Dataset) -> Path:
    store = loop.resources.settings.store
    return Path(store.spool) / store.bucket / store.prefix / dataset.run_key


@contextmanager
def hooked(loop: Loop, event: str, hook: Callable[..., None]) -> Iterator[None]:
    """Call `hook` at each such event of the store's client."""
    events = loop.resources.store.client.meta.events
    events.register(event, hook)
    try:
        yield
    finally:
        events.unregister(event, hook)


@contextmanager
def refused(loop: Loop, name: str) -> Iterator[None]:
    """The network drops every write of an object whose key ends in `name`."""

    def drop(params: dict[str, Any], **_: Any) -> None:
        if params["url_path"].endswith(name):
            raise EndpointConnectionError(endpoint_url=params["url"])

    with hooked(loop, "before-call.s3.PutObject", drop):
        yield


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    handler, logger = KillAt(step), logging.getLogger("learning_engine")
    logger.addHandler(handler)
    try:
        with pytest.raises(Killed):
            yield
    finally:
        logger.removeHandler(handler)
