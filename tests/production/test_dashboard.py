"""The Grafana dashboard and the Prometheus alerts use existing metrics and labels."""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from include.reference import metrics as setup_metrics
from learning_engine.web import metrics
from tests.production.conftest import ROOT

DASHBOARD = ROOT / "include" / "grafana" / "learning-engine.json"
ALERTS = ROOT / "include" / "prometheus" / "alerts.yaml"
METRIC = re.compile(r"learning_engine_[a-z_]+")
# Labels that Prometheus adds to every scraped metric.
SCRAPED = {"instance", "job"}


def labels_by_metric() -> dict[str, set[str]]:
    """The labels of each metric, by the name of its samples."""
    described = metrics.described()
    return {metric.name + "_total" * (metric.type == "counter"): set(metric._labelnames) for metric in described}


def board() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    loaded: list[dict[str, Any]] = group["rules"]
    return loaded


def panels() -> list[dict[str, Any]]:
    return [panel for panel in board()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """The title and expression of every query in both files."""
    for panel in panels():
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    yield from ((note["name"], note["expr"]) for note in board()["annotations"]["list"] if "expr" in note)
    yield from ((rule["alert"], rule["expr"]) for rule in rules())


def test_the_files_use_every_metric_and_no_other() -> None:
    used = {name for _, query in queries() for name in METRIC.findall(query)}
    assert used == set(labels_by_metric())


@pytest.mark.parametrize(("what", "query"), queries())
def test_a_query_uses_labels_of_its_metrics(what: str, query: str) -> None:
    known = labels_by_metric()
    for name, selector in re.findall(r"(learning_engine_[a-z_]+)\{([^}]*)\}", query):
        assert set(re.findall(r"(\w+)=", selector)) <= known[name], query
    all_of_them = set[str]().union(*(known[name] for name in METRIC.findall(query))) | SCRAPED
    for grouped in re.findall(r"(?:by|on) \(([^)]*)\)", query):
        assert set(filter(None, grouped.split(", "))) <= all_of_them, query


def test_a_legend_uses_labels_that_its_query_keeps() -> None:
    for panel in panels():
        for target in panel["targets"]:
            kept = set(itertools.chain(*(by.split(", ") for by in re.findall(r"by \(([^)]*)\)", target["expr"]))))
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept, panel["title"]


def test_grafana_11_can_import_the_dashboard() -> None:
    found = board()
    assert found["schemaVersion"] >= 39
    assert [(one["name"], one["type"], one["query"]) for one in found["templating"]["list"]] == [
        ("datasource", "datasource", "prometheus")
    ]
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"]), panel["title"]
        assert panel["targets"], panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references), panel["title"]


def test_the_page_is_up_to_date() -> None:
    assert setup_metrics.PAGE.read_text() == setup_metrics.page(), "stale: run `make docs`"


def test_no_panels_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in board()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x, y in itertools.product(range(place["w"]), range(place["h"])):
            cell = place["x"] + x, place["y"] + y
            assert cell not in taken, (panel["title"], taken[cell])
            taken[cell] = panel["title"]


def test_an_alert_has_a_severity_and_a_description() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert re.fullmatch(r"LearningEngine[A-Z]\w+", rule["alert"])
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "description"}
        named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert named <= set(re.findall(r"by \((\w+)\)", rule["expr"]))
