"""The commands `adapters deploy`, `rollback` and `deployments`."""

import sys
from collections.abc import Iterator
from typing import Any

import typer

from learning_engine.cli import exit_codes, formatting, options
from learning_engine.cli.client import Client
from learning_engine.cli.exit_codes import CliError
from learning_engine.cli.output import grid, print_result, say, table
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
    """Deploy a version, even one that the gate rejected."""
    client = Client.of(url)
    if not yes:
        _require_terminal()
        summary = client.get(f"/adapters/{version}").body["summary"]
        if not summary["accepted"]:
            say(f"The gate rejected {version}: {', '.join(summary['failed_rules'])}.", style="yellow")
        if summary["revoked"]:
            say(f"{version} was revoked.", style="yellow")
        _confirm(f"Deploy {version} in place of {_live(client)}?")
    started_run(client, client.post(f"/adapters/{version}/deploy", options.given(note=note)), wait, timeout, as_json)


def rollback(
    note: options.Note = None,
    wait: options.Wait = False,
    yes: options.Yes = False,
    timeout: options.Timeout = options.DAY,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """Return to the previously live version.

    The current version is revoked: later runs do not continue it, and it is never deployed automatically again.
    """
    client = Client.of(url)
    current = None
    if not yes:
        _require_terminal()
        ledger = client.get("/deployments", {"limit": 1}).body
        # Without a target, the server rejects the rollback and says why.
        if target := ledger["rollback_target"]:
            current = ledger["items"][0]["version"]
            _confirm(f"Roll back to {target} and revoke {current or 'the base model'}?")
    started_run(client, client.post("/rollback", options.given(version=current, note=note)), wait, timeout, as_json)


def deployments(
    at: options.At = None,
    limit: options.Limit = 20,
    offset: options.Offset = 0,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """Show the deployment history, newest first.

    With --at, show the version that was live at that time.
    """
    client = Client.of(url)
    if at:
        print_result(client.get("/deployments/at", {"time": at}), as_json, _moment)
        return
    answer = client.get("/deployments", {"limit": limit, "offset": offset})
    print_result(answer, as_json, _ledger)
    if unreadable := answer.body.get("unreadable"):
        say(f"Cannot be read: {', '.join(unreadable)}. See the daily audit.", style="yellow")
    shown, total = offset + len(answer.body["items"]), answer.body["total"]
    if shown < total:
        say(f"{len(answer.body['items'])} of {total}; more with --offset {shown}.")


def _require_terminal() -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("expected --yes, since there is no terminal for a confirmation", param_hint="--yes")


def _confirm(question: str) -> None:
    # typer.confirm would write a blank to stdout.
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CliError(exit_codes.FAILED, "Cancelled: nothing was done.")


def _live(client: Client) -> str:
    return str(client.get("/live").body["version"] or "the base model")


def _ledger(body: Any) -> Iterator[Any]:
    if not body["items"]:
        yield "Nothing has been deployed yet: the base model is live."
        return
    rows = (
        (
            formatting.when(item["at"]),
            item["version"] or "base",
            item["previous"] or "base",
            item["action"],
            formatting.yes(item["proven"]),
            item["decided_by"],
        )
        for item in body["items"]
    )
    yield table(("at (UTC)", "version", "previous", "action", "proven", "decided by"), rows)
    if body["rollback_target"]:
        yield ""
        yield f"A rollback would return to {body['rollback_target']}."


def _moment(body: Any) -> Iterator[Any]:
    deployment = body["deployment"]
    rows = [
        ("at", f"{formatting.when(body['time'])} UTC"),
        ("version", body["version"] or "none: the base model was live"),
    ]
    if deployment:
        rows += [
            ("since", f"{formatting.when(deployment['at'])} UTC"),
            ("action", deployment["action"]),
            ("decided by", deployment["decided_by"]),
        ]
    yield grid(rows)
