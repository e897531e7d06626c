"""`adapters list`, `show` and `download`: the published versions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from learning_engine.cli import options, words
from learning_engine.cli.client import Client
from learning_engine.cli.download import fetch
from learning_engine.cli.output import coloured, give, grid, say, table, write

GATE = {"accepted": "green", "rejected": "red", "passed": "green", "failed": "red"}
ROLES = {"live": "bold green", "revoked": "red"}


def list_all(
    limit: options.Limit = 20,
    offset: options.Offset = 0,
    accepted: Annotated[bool | None, typer.Option("--accepted/--rejected", help="By the gate.")] = None,
    revoked: Annotated[bool | None, typer.Option("--revoked/--not-revoked", help="By a rollback.")] = None,
    base_model: Annotated[str | None, typer.Option(metavar="NAME", help="Only versions of this base model.")] = None,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """The published versions, newest first."""
    params = options.given(limit=limit, offset=offset, accepted=accepted, revoked=revoked, base_model=base_model)
    # As the query of a URL has them.
    params = {name: str(value).lower() if isinstance(value, bool) else value for name, value in params.items()}
    answer = Client.of(url).get("/adapters", params)
    give(answer, as_json, _page)
    body = answer.body
    if body["unreadable"]:
        say(f"Cannot be read: {', '.join(body['unreadable'])}. The daily audit says why.", style="yellow")
    if offset + len(body["items"]) < body["total"]:
        say(f"{len(body['items'])} of {body['total']}; more with --offset {offset + len(body['items'])}.")


def show(version: options.Version, url: options.Url = None, as_json: options.Json = False) -> None:
    """Everything about a version.

    What it learned and kept, how the gate judged it, where it comes from and when it was live.
    """
    give(Client.of(url).get(f"/adapters/{version}"), as_json, _detail)


def download(
    version: options.Version,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: VERSION.tar.gz; or a directory.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """Fetch a version's archive.

    The file appears only when it is whole: its sha256 must be the server's and the one of the version's record.
    """
    found = fetch(Client.of(url), version, output or Path(), force)
    if as_json:
        write(found.to_json())
    else:
        say(f"{found.file}: {words.size(found.size)}, sha256 {found.sha256}")


def _page(body: Any) -> Iterator[Any]:
    if not body["items"]:
        yield "No version."
        return
    columns = ("version", "parent", "window", "rows", "learned", "kept", "gate", "")
    yield table(columns, (_row(item) for item in body["items"]), right=("rows", "learned", "kept"))


def _row(item: Any) -> tuple[Any, ...]:
    role = "live" if item["live"] else "revoked" if item["revoked"] else "vouched" if item["vouched"] else " "
    return (
        item["version"],
        item["parent"] or "base",
        words.days(item["window"]),
        f"{item['rows']:,}",
        f"{words.figure(_before(item), '.2f')} → {words.figure(item['loss'], '.2f')}",
        words.share(item["retained"]),
        coloured(_gate(item), GATE),
        coloured(role, ROLES),
    )


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
            ("revoked", _said(revocation)),
            ("vouched for", _said(vouch)),
            ("window", words.interval(summary["window"])),
            ("published", f"{words.when(summary['created_at'])} UTC by {metadata['run']['run_id']}"),
            ("lineage", " ← ".join((summary["version"], *body["lineage"], "base"))),
            ("children", ", ".join(body["children"]) or None),
            ("base model", summary["base_model"]),
            ("rows", f"{summary['rows']:,}: {summary['thumbs_up']:,} up, {summary['thumbs_down']:,} down"),
            ("dropped", words.counted(metadata["dataset"]["dropped"])),
            ("quarantined", words.counted(metadata["dataset"]["quarantined"])),
            ("loss", _losses(summary)),
            ("kept", ", ".join(f"{name} {words.share(value)}" for name, value in report["retained"].items()) or None),
            ("drift", f"{words.figure(summary['drift_parent'])} from its parent" if summary["parent"] else None),
            ("training", f"{training['steps']} steps in {words.duration(training['seconds'])} on {training['device']}"),
            (
                "EWC",
                f"λ {words.figure(summary['ewc_lambda'], 'g')}, penalty {words.figure(training['ewc_loss'], '.3g')}",
            ),
            ("archive", words.size(summary["size"])),
            ("sha256", summary["sha256"]),
        )
    )
    rules = (
        (
            rule["name"],
            words.figure(rule["figure"], ".4g"),
            f"{rule['comparison']} {words.figure(rule['bound'], 'g')}",
            coloured("passed" if rule["passed"] else "failed", GATE),
            rule["why"],
        )
        for rule in report["rules"]
    )
    yield ""
    yield table(("rule", "figure", "bound", "verdict", "why"), rows=rules, right=("figure", "bound"), title="Gate")
    if body["deployments"]:
        acts = ((words.when(one["at"]), one["action"], one["decided_by"]) for one in body["deployments"])
        yield ""
        yield table(("at (UTC)", "act", "decided by"), acts, title="Live")


def _losses(summary: Any) -> str:
    parts = ("loss", ""), ("loss_parent", " of its parent"), ("loss_base", " of the base")
    found = (f"{words.figure(summary[name])}{what}" for name, what in parts if summary[name] is not None)
    return ", ".join(found) or "not measured"


def _said(record: Any) -> str | None:
    """A revocation or a vouch."""
    return f"{words.when(record['at'])} UTC by {record['by']}: {record['reason']}" if record else None
