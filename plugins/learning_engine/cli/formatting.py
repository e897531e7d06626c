"""Formats values for display: times in UTC, losses in nats per token, bytes in units of 1000."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from learning_engine.cli.output import NOTHING


def when(moment: str | None) -> str:
    """`2026-11-09 02:00`, in UTC."""
    return f"{_utc(moment):%Y-%m-%d %H:%M}" if moment else NOTHING


def days(window: Mapping[str, Any] | None) -> str:
    """`2026-11-09 – 11-16`, with the year once if it is the same."""
    if not window:
        return NOTHING
    start, end = _utc(window["start"]), _utc(window["end"])
    return f"{start:%Y-%m-%d} – {end:%m-%d}" if start.year == end.year else f"{start:%Y-%m-%d} – {end:%Y-%m-%d}"


def interval(window: Mapping[str, Any]) -> str:
    """`[2026-11-09 02:00, 2026-11-16 02:00) UTC`."""
    return f"[{when(window['start'])}, {when(window['end'])}) UTC"


def figure(value: float | None, form: str = ".3f") -> str:
    return NOTHING if value is None else format(value, form)


def share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0%}"


def size(count: float | None) -> str:
    """`12.3 MB`."""
    if count is None:
        return NOTHING
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float | None) -> str:
    """`42 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds is None:
        return NOTHING
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def yes(value: bool | None) -> str:
    return "unknown" if value is None else "yes" if value else "no"


def counted(counts: Mapping[str, int]) -> str | None:
    """`12 (7 empty, 5 too long)`; None if nothing was counted."""
    if not counts:
        return None
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(counts.items(), key=lambda one: -one[1]))
    return f"{sum(counts.values()):,} ({reasons})"


def _utc(moment: str) -> datetime:
    return datetime.fromisoformat(moment).astimezone(UTC)
