"""`adapters deploy`, `rollback` and `deployments`: what goes live, and what was live when."""

import sys
from collections.abc import Iterator
from typing import Any

import typer

from learning_engine.cli import codes, options, words
from learning_engine.cli.client import Client
from learning_engine.cli.codes import CliError
from learning_engine.cli.output import give, grid, say, table
from learning_engine.cli.training import started_run


def deploy(
    version: options.Version,
    note: options.Note = None,
    wait: options.Wait = False,
    yes: options.Yes = False,
    timeout: options.Timeout = options.DAY,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """Put a version live, whatever the gate said of it."""
    client = Client.of(url)
    if not yes:
        _terminal()
        summary = client.get(f"/adapters/{version}").body["summary"]
        if not summary["accepted"]:
            say(f"The gate rejected {version}: {', '.join(summary['failed_rules'])}.", style="yellow")
        if summary["revoked"]:
            say(f"{version} was revoked.", style="yellow")
        _confirm(f"Put {version} live in place of {_live(client)}?")
    started_run(client, client.post(f"/adapters/{version}/deploy", options.given(note=note)), wait, timeout, as_json)


def rollback(
    note: options.Note = None,
    wait: options.Wait = False,
    yes: options.Yes = False,
    timeout: options.Timeout = options.DAY,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """Return to the version that was live before.

    The one that is live is revoked: nobody's parent, and never deployed by itself again.
    """
    client = Client.of(url)
    leaves = None
    if not yes:
        _terminal()
        ledger = client.get("/deployments", {"limit": 1}).body
        # Without one, the server refuses and says why.
        if target := ledger["rollback_target"]:
            leaves = ledger["items"][0]["version"]
            _confirm(f"Return to {target}, and revoke {leaves or 'the base model'}?")
    started_run(client, client.post("/rollback", options.given(version=leaves, note=note)), wait, timeout, as_json)


def deployments(
    at: options.At = None,
    limit: options.Limit = 20,
    offset: options.Offset = 0,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """What was live when, newest first.

    With --at the version that was live at a time.
    """
    client = Client.of(url)
    if at:
        give(client.get("/deployments/at", {"time": at}), as_json, _moment)
        return
    answer = client.get("/deployments", {"limit": limit, "offset": offset})
    give(answer, as_json, _ledger)
    if unreadable := answer.body.get("unreadable"):
        say(f"Cannot be read: {', '.join(unreadable)}. The daily audit says why.", style="yellow")
    shown, total = offset + len(answer.body["items"]), answer.body["total"]
    if shown < total:
        say(f"{len(answer.body['items'])} of {total}; more with --offset {shown}.")


def _terminal() -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("expected --yes, since there is no terminal to ask at", param_hint="--yes")


def _confirm(question: str) -> None:
    # typer's own question puts a blank on stdout.
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CliError(codes.FAILED, "Nothing was done, since the answer was not yes.")


def _live(client: Client) -> str:
    return str(client.get("/live").body["version"] or "the base model")


def _ledger(body: Any) -> Iterator[Any]:
    if not body["items"]:
        yield "Nothing was deployed yet: the base model answers."
        return
    rows = (
        (
            words.when(item["at"]),
            item["version"] or "base",
            item["previous"] or "base",
            item["action"],
            words.yes(item["proven"]),
            item["decided_by"],
        )
        for item in body["items"]
    )
    yield table(("at (UTC)", "version", "before", "act", "proven", "decided by"), rows)
    if body["rollback_target"]:
        yield ""
        yield f"A rollback would return to {body['rollback_target']}."


def _moment(body: Any) -> Iterator[Any]:
    deployment = body["deployment"]
    rows = [("at", f"{words.when(body['time'])} UTC"), ("version", body["version"] or "none: the base model answered")]
    if deployment:
        rows += [
            ("since", f"{words.when(deployment['at'])} UTC"),
            ("act", deployment["action"]),
            ("decided by", deployment["decided_by"]),
        ]
    yield grid(rows)
