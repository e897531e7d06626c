"""Options shared by several commands, and their parsers."""

import math
import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from learning_engine.cli.exit_codes import CliError

COMPLETION_SECONDS = 2.0
VERSION = re.compile(r"v\d{1,9}\.\d{1,9}")


class Deploy(StrEnum):
    AUTO = "auto"
    APPROVE = "approve"
    NEVER = "never"


class Force(StrEnum):
    NONE = "none"
    COUNT = "count"
    QUALITY = "quality"


def number(text: str) -> float:
    """Parse a finite number, since JSON has no NaN or infinity."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise typer.BadParameter(f"expected a number, found {text!r}")
    return value


def _moment(text: str) -> str:
    """Parse a time into ISO 8601; UTC if it has no zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"expected a time such as 2026-11-09 or 2026-11-09T02:00:00+01:00, found {text!r}"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _version(text: str) -> str:
    if not VERSION.fullmatch(text):
        raise typer.BadParameter(f"expected a version such as v1.3, found {text!r}")
    return text


def _known(incomplete: str) -> list[str]:
    """Versions for shell completion; none if the server does not answer soon."""
    from learning_engine.cli.client import Client

    try:
        page = Client.of(None).get("/adapters", {"limit": 100}, seconds=COMPLETION_SECONDS).body
    except CliError:
        return []
    return [item["version"] for item in page["items"] if item["version"].startswith(incomplete)]


def window(start: str | None, end: str | None) -> dict[str, str] | None:
    """The window, or None. Raises typer.BadParameter if only one end is given."""
    if (start is None) != (end is None):
        raise typer.BadParameter("expected --start and --end, found one of them: give both, or neither")
    return {"start": start, "end": end} if start and end else None


def given(**values: Any) -> dict[str, Any]:
    """The given values for a body or a query. The server has defaults for omitted ones."""
    return {name: value for name, value in values.items() if value is not None}


Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="Airflow's address. Default: LEARNING_ENGINE_URL, else the stored login."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the server's JSON on stdout.")]
Version = Annotated[
    str, typer.Argument(metavar="VERSION", callback=_version, autocompletion=_known, help="Such as v1.3.")
]
Start = Annotated[
    str | None,
    typer.Option("--start", metavar="TIME", parser=_moment, help="Start of the window, inclusive; UTC without a zone."),
]
End = Annotated[
    str | None,
    typer.Option("--end", metavar="TIME", parser=_moment, help="End of the window, exclusive."),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="TIME", parser=_moment, help="Show the version live at this time; UTC without a zone."
    ),
]
Note = Annotated[str | None, typer.Option("--note", metavar="TEXT", help="Reason; shown with the run in Airflow.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the run ends; exit with 1 if it failed.")]
Timeout = Annotated[
    int, typer.Option("--timeout", metavar="SECONDS", min=0, help="Maximum time for --wait or --watch.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100, help="Maximum number of entries.")]
Offset = Annotated[int, typer.Option("--offset", min=0, help="Number of newest entries to skip.")]
Run = Annotated[str | None, typer.Option("--run", metavar="RUN_ID", help="Only this run.")]
DAY = 86_400
