"""The bucket's figures in Prometheus' text format. Called by `scrape`; knows nothing of HTTP."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from learning_engine.steps.resources import Resources
from learning_engine.web import figures, trained
from learning_engine.web.figures import Figure, Scrape
from learning_engine.web.inventory import Inventory, look

PREFIX = "learning_engine_"
S = TypeVar("S")


def render(resources: Resources, durations: Mapping[str, float]) -> bytes:
    """`durations` are seconds by task. Raises StoreError where the bucket cannot be listed."""
    registry = CollectorRegistry()
    registry.register(BucketCollector(resources, durations))
    return generate_latest(registry)


def described() -> list[Metric]:
    """Every metric that there can be, without a value."""
    return list(_metrics(None, None))


class BucketCollector(Collector):
    """Looks at the bucket once for each scrape; `now` is for tests."""

    def __init__(self, resources: Resources, durations: Mapping[str, float], *, now: datetime | None = None) -> None:
        self._resources, self._durations, self._now = resources, durations, now

    def collect(self) -> Iterator[Metric]:
        """The metrics that have a value."""
        began = time.perf_counter()
        found = look(self._resources, now=self._now or datetime.now(UTC))
        scrape = Scrape(self._resources.settings.model.base, self._durations, time.perf_counter() - began)
        return (metric for metric in _metrics(found, scrape) if metric.samples)

    def describe(self) -> Iterable[Metric]:
        return described()


def _metrics(found: Inventory | None, scrape: Scrape | None) -> Iterator[Metric]:
    live = found.live if found else None
    newest = found.newest if found else None
    training = found.training if found else None
    yield from _filled(figures.BUCKET, found)
    yield from _filled(figures.LIVE, live)
    yield from _filled(trained.NEWEST, newest, {"version": newest.version if newest else ""})
    yield from _filled(trained.RUNNING, training if found and found.running else None)
    yield from _filled(trained.STARTED, training)
    yield from _filled(figures.SCRAPE, scrape)


def _filled(listed: Iterable[Figure[S]], record: S | None, fixed: Mapping[str, str] | None = None) -> Iterator[Metric]:
    """Each of `listed`, with what `record` holds of it; `fixed` are labels that all of them have."""
    fixed = fixed or {}
    for figure in listed:
        kind = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
        metric = kind(PREFIX + figure.name, figure.meaning, labels=(*fixed, *figure.labels))
        reading = None if record is None else figure.read(record)
        for labels, number in (reading if isinstance(reading, Mapping) else {(): reading}).items():
            if number is not None and math.isfinite(number):
                metric.add_metric((*fixed.values(), *((labels,) if isinstance(labels, str) else labels)), number)
        yield metric
