"""The user story, played through the page's own buttons: from an empty stack to a rollback."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from playwright.sync_api import expect

from tests.browser.screen import Screen
from tests.integration.conftest import Live, rows_of, until, week
from tests.integration.test_manual_runs import scheduled_states

WEEKLY, DEPLOY, FISHER = (f"learning_engine_{name}" for name in ("weekly", "deploy", "fisher"))
VIEWS = ("", "versions", "ledger", "preflight")
# Long enough to observe the training in progress.
EPOCHS = "40"


@dataclass(frozen=True)
class Story:
    """What happened, with texts that the page showed.

    `before`: the text of each view while nothing was published. `first` is live at the end, after a rollback from
    `second`, which is revoked; `rejected` continues `first`. `moments`: times at which first, second and first again
    were live.
    """

    before: dict[str, str]
    refused: str
    watched: str
    approval_note: str
    first: str
    second: str
    rejected: str
    deploying: str
    rolling_back: str
    moments: tuple[datetime, datetime, datetime]


def run_story(live: Live, screen: Screen) -> Story:
    screen.frame()
    before = _texts_of_views(screen)
    refused = _refused(screen)
    for name in (WEEKLY, DEPLOY, FISHER):
        live.rest.unpause(name)
    # Otherwise the scheduled run of last week would use part of the feedback.
    until("the scheduled run of last week to end", lambda: "success" in scheduled_states(live))
    live.add_feedback(rows_of(0))
    _fill_in(screen, 0, epochs=EPOCHS, deploy="approve")
    run = _start(screen)
    watched = _watch(screen)
    live.wait_for_question(run)
    approval_note = _approval_note(screen)
    live.answer(run, "Approve")
    screen.done(run)
    first = _version(live, run)
    live.add_feedback(rows_of(1))
    second = _version(live, _train(screen, 1, deploy="never"))
    live.add_feedback([{**row, "feedback_type": "thumbs_down"} for row in rows_of(2, 24)])
    rejected = _version(live, _train(screen, 2, verdict="Too few rows", force="count", min_samples="50"))
    moments = [datetime.now(UTC)]
    deploying = _act(screen, f"versions/{second}", "Deploy…", f"Deploy {second}")
    moments.append(datetime.now(UTC))
    rolling_back = _act(screen, "", "Roll back…", f"Roll back to {first}")
    moments.append(datetime.now(UTC))
    times = (moments[0], moments[1], moments[2])
    return Story(before, refused, watched, approval_note, first, second, rejected, deploying, rolling_back, times)


def _texts_of_views(screen: Screen) -> dict[str, str]:
    found = {}
    for route in VIEWS:
        _go(screen, route)
        found[route] = screen.text()
    return found


def _refused(screen: Screen) -> str:
    """The page's message while the DAG is paused. Cancels the confirmation with Escape."""
    _go(screen, "train")
    screen.button("Start training…").click()
    screen.button("Start training", exact=True).click()
    alert = screen.root.get_by_role("dialog").get_by_role("alert")
    expect(alert).to_be_visible()
    text = alert.inner_text()
    # The browser logs the rejection as an error.
    screen.errors.clear()
    screen.page.keyboard.press("Escape")
    expect(screen.root.get_by_role("dialog")).to_have_count(0)
    return text


def _go(screen: Screen, route: str) -> None:
    screen.root.locator("body").evaluate("(_, route) => { location.hash = `#/${route}`; }", route)
    screen.settled()


def _fill_in(screen: Screen, number: int, verdict: str = "Enough rows", **settings: str) -> None:
    """Open the training form from the preflight of a week, which gives `verdict`, and fill in overrides."""
    _go(screen, "preflight")
    screen.root.get_by_label("Custom window").check()
    for label, moment in (("From", week(number).start), ("Until", week(number).end)):
        screen.root.get_by_label(label, exact=True).fill(moment.strftime("%Y-%m-%dT%H:%M"))
    screen.button("Check").click()
    expect(screen.root.get_by_text(verdict)).to_be_visible(timeout=30_000)
    screen.button("Train on this window…").click()
    screen.settled()
    for name, value in settings.items():
        field = screen.root.locator(f"[name={name}]")
        (field.select_option if name in ("deploy", "force") else field.fill)(value)


def _start(screen: Screen) -> str:
    screen.button("Start training…").click()
    return screen.confirm("Start training")


def _train(screen: Screen, number: int, verdict: str = "Enough rows", **settings: str) -> str:
    _fill_in(screen, number, verdict, **settings)
    run = _start(screen)
    screen.done(run)
    return run


def _watch(screen: Screen) -> str:
    """The overview's text about the training in progress, and its chart label."""
    _go(screen, "")
    panel = screen.root.get_by_role("region", name="Training in progress")
    expect(panel.get_by_role("img")).to_be_visible(timeout=120_000)
    expect(panel.locator("canvas")).to_be_visible()
    return f"{panel.get_by_role('img').get_attribute('aria-label')}\n{panel.inner_text()}"


def _approval_note(screen: Screen) -> str:
    """The overview's note while the run waits for approval."""
    note = screen.root.get_by_role("region", name="Training in progress").get_by_text("waiting for approval")
    expect(note).to_be_visible(timeout=60_000)
    return note.inner_text()


def _act(screen: Screen, route: str, button: str, verb: str) -> str:
    """Open the confirmation, confirm, and wait for the run. Returns the listed effects."""
    _go(screen, route)
    screen.button(button).click()
    expect(screen.root.get_by_role("dialog")).to_be_visible()
    text = screen.effects()
    screen.done(screen.confirm(verb))
    return text


def _version(live: Live, run: str) -> str:
    published: dict[str, Any] = live.xcom(run, "publish")
    return str(published["version"])
