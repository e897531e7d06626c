"""The read-only commands `health`, `live`, `metrics`, `storage` and `preflight`."""

import json
from collections.abc import Iterator
from typing import Any

import typer

from learning_engine.cli import exit_codes, formatting, options
from learning_engine.cli.client import Client
from learning_engine.cli.output import coloured, grid, print_result, say, table, write

STATES = {
    "up": "green",
    "passed": "green",
    "degraded": "yellow",
    "down": "red",
    "not passed": "red",
    "unknown": "dim",
}
VERDICTS = ("accepted", "rejected", "revoked")
# The server reads the whole window, with its own time limit.
PREFLIGHT_SECONDS = 1800.0


def health(url: options.Url = None, as_json: options.Json = False) -> None:
    """Check the health of each component.

    Database, store, replicas, GPU workers, scheduler. Exits with 1 if the overall state is down.
    """
    answer = Client.of(url).get("/health", also=(503,))
    print_result(answer, as_json, _health)
    if answer.body["state"] == "down":
        raise typer.Exit(exit_codes.FAILED)


def live(url: options.Url = None, as_json: options.Json = False) -> None:
    """Show the live model, as applications request it."""
    print_result(Client.of(url).get("/live"), as_json, _live)


def metrics(url: options.Url = None, as_json: options.Json = False) -> None:
    """Print the metrics in Prometheus' format.

    With --json, a list of samples: name, labels and value.
    """
    text = Client.of(url).text("/metrics")
    write(json.dumps(list(_samples(text.decode()))).encode() if as_json else text)


def storage(url: options.Url = None, as_json: options.Json = False) -> None:
    """Show the contents of the bucket."""
    print_result(Client.of(url).get("/storage"), as_json, _storage)


def preflight(
    start: options.Start = None, end: options.End = None, url: options.Url = None, as_json: options.Json = False
) -> None:
    """Show what a run over a window would find.

    Default: the last complete week. Exits with 1 if there are too few rows to train on.
    """
    answer = Client.of(url).get("/preflight", options.window(start, end), seconds=PREFLIGHT_SECONDS)
    print_result(answer, as_json, _preflight)
    if not answer.body["count_gate"]["passed"]:
        say("Too few rows: a run over this window would train nothing.", style="yellow")
        raise typer.Exit(exit_codes.FAILED)


def _health(body: Any) -> Iterator[Any]:
    yield coloured(body["state"], STATES)
    rows = (
        (check["name"], coloured(check["state"], STATES), _milliseconds(check["latency_ms"]), check["reason"])
        for check in body["checks"]
    )
    yield table(("component", "state", "ms", "reason"), rows, right=("ms",))


def _milliseconds(value: float | None) -> str:
    return formatting.figure(value, ".0f")


def _live(body: Any) -> Iterator[Any]:
    yield grid(
        (
            ("model", body["model"]),
            ("version", body["version"] or "none: the base model is live"),
            ("base model", body["base_model"]),
            ("since", f"{formatting.when(body['since'])} UTC" if body["since"] else None),
            ("proven", formatting.yes(body["proven"]) if body["version"] else None),
        )
    )


def _storage(body: Any) -> Iterator[Any]:
    yield grid(
        (
            ("bucket", body["bucket"]),
            ("prefix", body["prefix"] or None),
            ("objects", f"{body['objects']:,}"),
            ("bytes", formatting.size(body["bytes"])),
            ("versions", f"{body['versions']}: {', '.join(f'{body[kind]} {kind}' for kind in VERDICTS)}"),
        )
    )
    for title, areas in (("By area", body["areas"]), ("Largest versions", body["largest"])):
        if areas:
            rows = ((area["area"], f"{area['objects']:,}", formatting.size(area["bytes"])) for area in areas)
            yield ""
            yield table(("name", "objects", "bytes"), rows, right=("objects", "bytes"), title=title)


def _preflight(body: Any) -> Iterator[Any]:
    gate, memory = body["count_gate"], body["memory"]
    asked, minutes, earlier = body["asked"], body["gpu_minutes"], body["overlapping"]
    yield grid(
        (
            ("window", formatting.interval(body["window"])),
            ("requested", formatting.interval(asked) if asked != body["window"] else None),
            ("parent", body["parent"] or "none: the base model"),
            ("overlaps", ", ".join(earlier) or None),
            ("rows", f"{body['rows']:,} of {body['read']:,} read"),
            ("thumbs", f"{body['thumbs_up']:,} up, {body['thumbs_down']:,} down"),
            ("users", None if body["users"] is None else f"{body['users']:,}"),
            ("conversations", f"{body['conversations']:,}"),
            ("tokens", None if body["tokens"] is None else f"{body['tokens']:,}"),
            ("dropped", formatting.counted(body["dropped"])),
            ("quarantined", formatting.counted(body["quarantined"])),
            (
                "count gate",
                coloured("passed" if gate["passed"] else "not passed", STATES),
            ),
            ("", gate["why"]),
            ("memory", {True: "fits", False: "does not fit", None: "unknown"}[memory["fits"]]),
            ("", memory["why"]),
            (
                "GPU minutes",
                None if minutes is None else f"{minutes:.1f}, based on {', '.join(body['gpu_minutes_by'])}",
            ),
        )
    )


def _samples(text: str) -> Iterator[dict[str, Any]]:
    from prometheus_client.parser import text_string_to_metric_families

    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            # JSON has no NaN and no infinity.
            value = sample.value if abs(sample.value) < float("inf") else str(sample.value)
            yield {"name": sample.name, "labels": sample.labels, "value": value}
