"""Renders the metrics in Prometheus' text format. Independent of HTTP. Called by scrape."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from learning_engine.steps.resources import Resources
from learning_engine.web import metric_definitions, training_metrics
from learning_engine.web.inventory import Inventory, take_inventory
from learning_engine.web.metric_definitions import MetricDefinition, ScrapeContext

PREFIX = "learning_engine_"
S = TypeVar("S")


def render(resources: Resources, durations: Mapping[str, float]) -> bytes:
    """`durations` are seconds by task. Raises StoreError if the bucket cannot be listed."""
    registry = CollectorRegistry()
    registry.register(BucketCollector(resources, durations))
    return generate_latest(registry)


def described() -> list[Metric]:
    """Every defined metric, without values."""
    return list(_metrics(None, None))


class BucketCollector(Collector):
    """Reads the bucket once per scrape; `now` is for tests."""

    def __init__(self, resources: Resources, durations: Mapping[str, float], *, now: datetime | None = None) -> None:
        self._resources, self._durations, self._now = resources, durations, now

    def collect(self) -> Iterator[Metric]:
        """The metrics that have a value."""
        began = time.perf_counter()
        found = take_inventory(self._resources, now=self._now or datetime.now(UTC))
        scrape = ScrapeContext(self._resources.settings.model.base, self._durations, time.perf_counter() - began)
        return (metric for metric in _metrics(found, scrape) if metric.samples)

    def describe(self) -> Iterable[Metric]:
        return described()


def _metrics(found: Inventory | None, scrape: ScrapeContext | None) -> Iterator[Metric]:
    live = found.live if found else None
    newest = found.newest if found else None
    training = found.training if found else None
    yield from _with_samples(metric_definitions.BUCKET, found)
    yield from _with_samples(metric_definitions.LIVE, live)
    yield from _with_samples(training_metrics.NEWEST, newest, {"version": newest.version if newest else ""})
    yield from _with_samples(training_metrics.RUNNING, training if found and found.running else None)
    yield from _with_samples(training_metrics.STARTED, training)
    yield from _with_samples(metric_definitions.SCRAPE, scrape)


def _with_samples(
    listed: Iterable[MetricDefinition[S]], record: S | None, fixed: Mapping[str, str] | None = None
) -> Iterator[Metric]:
    """Each of `listed` with its samples from `record`. `fixed` are labels that all samples carry."""
    fixed = fixed or {}
    for figure in listed:
        kind = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
        metric = kind(PREFIX + figure.name, figure.meaning, labels=(*fixed, *figure.labels))
        reading = None if record is None else figure.read(record)
        for labels, number in (reading if isinstance(reading, Mapping) else {(): reading}).items():
            if number is not None and math.isfinite(number):
                metric.add_metric((*fixed.values(), *((labels,) if isinstance(labels, str) else labels)), number)
        yield metric
