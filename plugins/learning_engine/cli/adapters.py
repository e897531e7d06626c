"""The commands `adapters list`, `show` and `download`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from learning_engine.cli import formatting, options
from learning_engine.cli.client import Client
from learning_engine.cli.download import fetch
from learning_engine.cli.output import coloured, grid, print_result, say, table, write

GATE = {"accepted": "green", "rejected": "red", "passed": "green", "failed": "red", "fell": "red"}
ROLES = {"live": "bold green", "revoked": "red"}


def list_all(
    limit: options.Limit = 20,
    offset: options.Offset = 0,
    accepted: Annotated[bool | None, typer.Option("--accepted/--rejected", help="Only by verdict of the gate.")] = None,
    revoked: Annotated[bool | None, typer.Option("--revoked/--not-revoked", help="Only by revocation.")] = None,
    base_model: Annotated[str | None, typer.Option(metavar="NAME", help="Only versions of this base model.")] = None,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """List the published versions, newest first."""
    params = options.given(limit=limit, offset=offset, accepted=accepted, revoked=revoked, base_model=base_model)
    # Booleans in lower case, as in a URL query.
    params = {name: str(value).lower() if isinstance(value, bool) else value for name, value in params.items()}
    answer = Client.of(url).get("/adapters", params)
    print_result(answer, as_json, _page)
    body = answer.body
    if body["unreadable"]:
        say(f"Cannot be read: {', '.join(body['unreadable'])}. See the daily audit.", style="yellow")
    if offset + len(body["items"]) < body["total"]:
        say(f"{len(body['items'])} of {body['total']}; more with --offset {offset + len(body['items'])}.")


def show(version: options.Version, url: options.Url = None, as_json: options.Json = False) -> None:
    """Show all details of a version.

    Losses, gate verdict, lineage, training and deployments.
    """
    print_result(Client.of(url).get(f"/adapters/{version}"), as_json, _detail)


def download(
    version: options.Version,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="File or directory. Default: VERSION.tar.gz.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """Download a version's archive.

    The file is only created if its sha256 matches both the server's header and the version's record.
    """
    found = fetch(Client.of(url), version, output or Path(), force)
    if as_json:
        write(found.to_json())
    else:
        say(f"{found.file}: {formatting.size(found.size)}, sha256 {found.sha256}")


def _page(body: Any) -> Iterator[Any]:
    if not body["items"]:
        yield "No versions."
        return
    columns = ("version", "parent", "window", "rows", "loss", "retained", "gate", "")
    yield table(columns, (_row(item) for item in body["items"]), right=("rows", "loss", "retained"))


def _row(item: Any) -> tuple[Any, ...]:
    role = "live" if item["live"] else "revoked" if item["revoked"] else "vouched" if item["vouched"] else " "
    return (
        item["version"],
        item["parent"] or "base",
        formatting.days(item["window"]),
        f"{item['rows']:,}",
        f"{formatting.figure(_before(item), '.2f')} → {formatting.figure(item['loss'], '.2f')}",
        formatting.share(item["retained"]),
        coloured(_gate(item), GATE),
        coloured(role, ROLES),
    )


def _retained(report: Any) -> dict[str, Any]:
    """By version: of what its window taught where that can be judged, by loss otherwise."""
    taught = {name: kept["retained"] for name, kept in report["kept"].items() if kept["retained"] is not None}
    return {**report["retained"], **taught}


def _taught(content: Any) -> str | None:
    if content["candidate"] is None:
        return None
    return f"{formatting.share(content['candidate'])} of {content['places']:,} phrases"


def _before(summary: Any) -> Any:
    return summary["loss_base"] if summary["loss_parent"] is None else summary["loss_parent"]


def _gate(summary: Any) -> str:
    return "accepted" if summary["accepted"] else "rejected"


def _detail(body: Any) -> Iterator[Any]:
    summary, metadata = body["summary"], body["metadata"]
    training, report, revocation, vouch = metadata["training"], metadata["report"], body["revocation"], body["vouch"]
    yield grid(
        (
            ("version", summary["version"] + (", live" if summary["live"] else "")),
            ("gate", coloured(_gate(summary), GATE)),
            ("revoked", _record_text(revocation)),
            ("vouched for", _record_text(vouch)),
            ("window", formatting.interval(summary["window"])),
            ("published", f"{formatting.when(summary['created_at'])} UTC by {metadata['run']['run_id']}"),
            ("lineage", " ← ".join((summary["version"], *body["lineage"], "base"))),
            ("children", ", ".join(body["children"]) or None),
            ("base model", summary["base_model"]),
            ("rows", f"{summary['rows']:,}: {summary['thumbs_up']:,} up, {summary['thumbs_down']:,} down"),
            ("dropped", formatting.counted(metadata["dataset"]["dropped"])),
            ("quarantined", formatting.counted(metadata["dataset"]["quarantined"])),
            ("loss", _losses(summary)),
            (
                "retained",
                ", ".join(f"{name} {formatting.share(value)}" for name, value in _retained(report).items()) or None,
            ),
            ("taught", _taught(report["taught"])),
            ("drift", f"{formatting.figure(summary['drift_parent'])} from its parent" if summary["parent"] else None),
            (
                "training",
                f"{training['steps']} steps in {formatting.duration(training['seconds'])} on {training['device']}",
            ),
            (
                "EWC",
                f"λ {formatting.figure(summary['ewc_lambda'], 'g')}, "
                f"penalty {formatting.figure(training['ewc_loss'], '.3g')}",
            ),
            ("archive", formatting.size(summary["size"])),
            ("sha256", summary["sha256"]),
        )
    )
    rules = (
        (
            rule["name"],
            formatting.figure(rule["figure"], ".4g"),
            f"{rule['comparison']} {formatting.figure(rule['bound'], 'g')}",
            coloured("passed" if rule["passed"] else "failed", GATE),
            rule["why"],
        )
        for rule in report["rules"]
    )
    yield ""
    yield table(("rule", "figure", "bound", "verdict", "why"), rows=rules, right=("figure", "bound"), title="Gate")
    if report["slices"]:
        yield ""
        yield _slices(report["slices"])
    if body["deployments"]:
        rows = ((formatting.when(one["at"]), one["action"], one["decided_by"]) for one in body["deployments"])
        yield ""
        yield table(("at (UTC)", "action", "decided by"), rows, title="Deployments")


def _slices(slices: Any) -> Any:
    columns = ("slice", "conversations", "loss", "parent", "base", "taught", "retained", "")
    rows = (
        (
            f"{part['name']}={part['value'] or '(none)'}",
            f"{part['conversations']:,}",
            formatting.figure(part["loss"]),
            formatting.figure(part["loss_parent"]),
            formatting.figure(part["loss_base"]),
            formatting.share(part["taught"]["candidate"]),
            formatting.share(part["retained"]),
            coloured("fell" if part["fell"] else " ", GATE),
        )
        for part in slices
    )
    return table(columns, rows, right=columns[1:-1], title="Slices")


def _losses(summary: Any) -> str:
    parts = ("loss", ""), ("loss_parent", " of its parent"), ("loss_base", " of the base")
    found = (f"{formatting.figure(summary[name])}{what}" for name, what in parts if summary[name] is not None)
    return ", ".join(found) or "not measured"


def _record_text(record: Any) -> str | None:
    """A revocation or a vouch as text."""
    return f"{formatting.when(record['at'])} UTC by {record['by']}: {record['reason']}" if record else None
