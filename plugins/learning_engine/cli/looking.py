"""`health`, `live`, `metrics`, `storage` and `preflight`: how things are, without changing any."""

import json
from collections.abc import Iterator
from typing import Any

import typer

from learning_engine.cli import codes, options, words
from learning_engine.cli.client import Client
from learning_engine.cli.output import coloured, give, grid, say, table, write

STATES = {
    "up": "green",
    "passed": "green",
    "degraded": "yellow",
    "down": "red",
    "not passed": "red",
    "unknown": "dim",
}
VERDICTS = ("accepted", "rejected", "revoked")
# The window's feedback is read through, which has its own time limit on the server.
PREFLIGHT_SECONDS = 1800.0


def health(url: options.Url = None, as_json: options.Json = False) -> None:
    """Whether the parts are up.

    Database, store, replicas, GPU workers, scheduler. Exits with 1 where one is down that the loop cannot do without.
    """
    answer = Client.of(url).get("/health", also=(503,))
    give(answer, as_json, _health)
    if answer.body["state"] == "down":
        raise typer.Exit(codes.FAILED)


def live(url: options.Url = None, as_json: options.Json = False) -> None:
    """What applications ask the model server for."""
    give(Client.of(url).get("/live"), as_json, _live)


def metrics(url: options.Url = None, as_json: options.Json = False) -> None:
    """The figures as Prometheus reads them.

    With --json a list of samples: name, labels and value.
    """
    text = Client.of(url).text("/metrics")
    write(json.dumps(list(_samples(text.decode()))).encode() if as_json else text)


def storage(url: options.Url = None, as_json: options.Json = False) -> None:
    """What the bucket holds."""
    give(Client.of(url).get("/storage"), as_json, _storage)


def preflight(
    start: options.Start = None, end: options.End = None, url: options.Url = None, as_json: options.Json = False
) -> None:
    """What a run over a window would find.

    By default over the last complete week. Exits with 1 where there are too few rows to train on.
    """
    answer = Client.of(url).get("/preflight", options.window(start, end), seconds=PREFLIGHT_SECONDS)
    give(answer, as_json, _preflight)
    if not answer.body["count_gate"]["passed"]:
        say("Too few rows: a run over this window would train nothing.", style="yellow")
        raise typer.Exit(codes.FAILED)


def _health(body: Any) -> Iterator[Any]:
    yield coloured(body["state"], STATES)
    rows = (
        (check["name"], coloured(check["state"], STATES), _milliseconds(check["latency_ms"]), check["reason"])
        for check in body["checks"]
    )
    yield table(("part", "state", "ms", "reason"), rows, right=("ms",))


def _milliseconds(value: float | None) -> str:
    return words.figure(value, ".0f")


def _live(body: Any) -> Iterator[Any]:
    yield grid(
        (
            ("model", body["model"]),
            ("version", body["version"] or "none: the base model answers"),
            ("base model", body["base_model"]),
            ("since", f"{words.when(body['since'])} UTC" if body["since"] else None),
            ("proven", words.yes(body["proven"]) if body["version"] else None),
        )
    )


def _storage(body: Any) -> Iterator[Any]:
    yield grid(
        (
            ("bucket", body["bucket"]),
            ("prefix", body["prefix"] or None),
            ("objects", f"{body['objects']:,}"),
            ("bytes", words.size(body["bytes"])),
            ("versions", f"{body['versions']}: {', '.join(f'{body[kind]} {kind}' for kind in VERDICTS)}"),
        )
    )
    for title, areas in (("By area", body["areas"]), ("Largest versions", body["largest"])):
        if areas:
            rows = ((area["area"], f"{area['objects']:,}", words.size(area["bytes"])) for area in areas)
            yield ""
            yield table(("name", "objects", "bytes"), rows, right=("objects", "bytes"), title=title)


def _preflight(body: Any) -> Iterator[Any]:
    gate, memory = body["count_gate"], body["memory"]
    asked, minutes, earlier = body["asked"], body["gpu_minutes"], body["overlapping"]
    yield grid(
        (
            ("window", words.interval(body["window"])),
            ("asked for", words.interval(asked) if asked != body["window"] else None),
            ("parent", body["parent"] or "none: the base model"),
            ("learned before", f"in part or whole by {', '.join(earlier)}" if earlier else None),
            ("rows", f"{body['rows']:,} of {body['read']:,} read"),
            ("thumbs", f"{body['thumbs_up']:,} up, {body['thumbs_down']:,} down"),
            ("users", None if body["users"] is None else f"{body['users']:,}"),
            ("conversations", f"{body['conversations']:,}"),
            ("tokens", None if body["tokens"] is None else f"{body['tokens']:,}, estimated"),
            ("dropped", words.counted(body["dropped"])),
            ("quarantined", words.counted(body["quarantined"])),
            (
                "count gate",
                coloured("passed" if gate["passed"] else "not passed", STATES),
            ),
            ("", gate["why"]),
            ("memory", {True: "fits", False: "does not fit", None: "unknown"}[memory["fits"]]),
            ("", memory["why"]),
            ("GPU minutes", None if minutes is None else f"{minutes:.1f}, by {', '.join(body['gpu_minutes_by'])}"),
        )
    )


def _samples(text: str) -> Iterator[dict[str, Any]]:
    from prometheus_client.parser import text_string_to_metric_families

    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            # JSON has no NaN and no infinity.
            value = sample.value if abs(sample.value) < float("inf") else str(sample.value)
            yield {"name": sample.name, "labels": sample.labels, "value": value}
