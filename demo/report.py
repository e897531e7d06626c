"""`.demo/report.json`, and the tables that the demo prints at its end."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.console import Screen, answers_table, verdict, versions_table
from demo.lessons import Week
from learning_engine.records.contracts import AdapterVersion, Deployment
from learning_engine.records.report import Report

Matrix = list[list[float]]
STRUCTURES = {"kronecker": "Kronecker factors", "diagonal": "the diagonal"}
# The other ways of training in words, by their names in `chain.OTHER_WAYS`.
WAYS = {"diagonal": "with the textbook diagonal", "without": "without EWC"}
# Questions of each earlier week that are printed with their answers.
EARLIER_QUESTIONS = 2


@dataclass(frozen=True)
class Outcome:
    """The demo's results: versions oldest first, ledger newest first, answers, and shares of right answers.

    A matrix has rows for the base and each version, and columns for the base's facts and each week's. `other_ways` has
    one for each of the ways in `chain.OTHER_WAYS` that the demo trained.
    """

    weeks: Sequence[Week]
    versions: Sequence[AdapterVersion]
    ledger: Sequence[Deployment]
    answers: Sequence[dict[str, Any]]
    matrix: Matrix
    other_ways: Mapping[str, Matrix]


def compose(outcome: Outcome, seconds: Mapping[str, float]) -> dict[str, Any]:
    """The content of report.json."""
    deployed = {entry.version for entry in outcome.ledger}
    return {
        "seconds": dict(seconds),
        "versions": [_version(version, version.version in deployed) for version in outcome.versions],
        "live": outcome.ledger[0].version,
        "answers": list(outcome.answers),
        "forgetting": _forgetting(outcome),
    }


def write(body: Mapping[str, Any], path: Path) -> None:
    path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n")


def show(screen: Screen, body: Mapping[str, Any]) -> None:
    """Print the versions, answers to questions of every week, and how many are right and still right."""
    print_ = screen.console.print
    print_()
    print_(versions_table([_row(version) for version in body["versions"]]))
    print_()
    of_weeks: dict[str, list[Mapping[str, Any]]] = {}
    for answer in body["answers"]:
        of_weeks.setdefault(answer["window"], []).append(answer)
    *earlier, of_last = of_weeks.values()
    print_(answers_table("Facts of the last week, asked in new wording", of_last))
    print_()
    of_earlier = [answer for answers in earlier for answer in answers[:EARLIER_QUESTIONS]]
    print_(answers_table("Facts of the earlier weeks", of_earlier))
    print_()
    for start, asked in of_weeks.items():
        base, live = count_right(asked)
        print_(f"Week of {start[:10]}: {body['live']} answers {live} of {len(asked)} right, the base {base}.")
    kept = body["forgetting"]
    print_(
        f"Of all facts of the first {len(kept['weeks'])} weeks, {kept['kept_mean']:.0%} are still right after the last "
        f"week (EWC with {kept['structure']}, λ = {kept['lambda']:.3g})."
    )
    if others := other_ways(kept):
        print_(f"By comparison: {others}.")
    base, live = (kept["matrix"][row][0] for row in (0, -1))
    print_(
        f"Of questions about what the base model knew, the base answers {base:.0%} right, {body['live']} {live:.0%}."
    )


def count_right(answers: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """How many answers of the base model are right, and how many of the live version."""
    base, live = (sum(answer[f"{who}_right"] for answer in answers) for who in ("base", "live"))
    return base, live


def other_ways(kept: Mapping[str, Any]) -> str:
    """What the other ways of training keep, in words; empty if there were none."""
    found = (f"{words} {kept[f'kept_mean_{name}']:.0%}" for name, words in WAYS.items() if f"kept_{name}" in kept)
    return ", ".join(found)


def _version(version: AdapterVersion, deployed: bool) -> dict[str, Any]:
    window = version.window
    return {
        "version": version.version,
        "parent": version.parent,
        "window": {"start": window.start.isoformat(), "end": window.end.isoformat()},
        "rows": version.dataset.rows,
        "report": version.report.to_json(),
        "deployed": deployed,
    }


def _forgetting(outcome: Outcome) -> dict[str, Any]:
    """For each way of training, the share of each earlier week's facts that is right after the last week."""
    earlier = range(1, len(outcome.weeks))
    last = outcome.versions[-1]
    body: dict[str, Any] = {
        "lambda": last.ewc_lambda,
        "structure": STRUCTURES[last.fisher.kind],
        "weeks": [week.window.start.isoformat() for week in outcome.weeks[:-1]],
    }
    ways = {"": outcome.matrix, **{f"_{name}": matrix for name, matrix in outcome.other_ways.items()}}
    for name, matrix in ways.items():
        kept = [matrix[-1][week] for week in earlier]
        body |= {f"kept{name}": kept, f"kept_mean{name}": sum(kept) / len(kept), f"matrix{name}": matrix}
    return body


def _row(version: Mapping[str, Any]) -> list[Any]:
    """One row of the versions table. learned: held-out loss before and after; kept: the lowest of all weeks."""
    report = Report.from_json(version["report"])
    before = report.loss_parent if report.loss_parent is not None else report.loss_base
    retained = report.shares_retained().values()
    window = version["window"]
    failed = [rule.name for rule in report.rules if not rule.passed]
    return [
        version["version"],
        version["parent"] or "base",
        f"{window['start'][:10]} – {window['end'][5:10]}",
        version["rows"],
        f"{_number(before)} → {_number(report.loss)}",
        f"{min(retained):.0%}" if retained else "–",
        _number(report.drift_parent),
        verdict(not failed, "accepted", f"rejected: {', '.join(failed)}"),
        verdict(version["deployed"], "yes", "no"),
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
