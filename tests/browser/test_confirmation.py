"""The confirmation of an action: it sends what it shows, and stays open until the user closes it."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import Opener
from tests.browser.screen import Screen
from tests.browser.user_story import Story

pytestmark = pytest.mark.real
REFUSED = ("409",)
CHANGED = "dispatchEvent(new Event('learning-engine:changed'))"


class HeldRequests:
    """Intercepts requests of an action and leaves them unanswered."""

    def __init__(self, screen: Screen, path: str) -> None:
        self.routes: list[Route] = []
        screen.page.route(path, self._hold)

    def _hold(self, route: Route) -> None:
        self.routes.append(route)

    def body(self) -> Any:
        return self.routes[0].request.post_data_json

    def refuse(self, detail: str) -> None:
        problem = {"type": "about:blank", "title": "Conflict", "status": 409, "detail": detail}
        self.routes[0].fulfill(status=409, json=problem, content_type="application/problem+json")


def confirm_deployment(screen: Screen, story: Story) -> HeldRequests:
    """Confirms the deployment of `second`; the server has not answered yet."""
    held = HeldRequests(screen, f"**/adapters/{story.second}/deploy")
    screen.open(f"versions/{story.second}")
    screen.button("Deploy…").click()
    with screen.page.expect_request("**/deploy"):
        screen.button(f"Deploy {story.second}", exact=True).click()
    return held


def escape(screen: Screen) -> None:
    screen.page.keyboard.press("Escape")


def cancel(screen: Screen) -> None:
    screen.button("Cancel").click()


@pytest.mark.parametrize("leave", [escape, cancel])
def test_a_sent_request_cannot_be_cancelled(opened: Opener, story: Story, leave: Callable[[Screen], None]):
    screen = opened(expected_errors=REFUSED)
    held = confirm_deployment(screen, story)
    leave(screen)
    expect(screen.root.get_by_role("dialog")).to_be_visible()
    held.refuse("the deploy DAG is paused")
    expect(screen.root.get_by_role("dialog").get_by_role("alert")).to_contain_text("the deploy DAG is paused")
    leave(screen)
    expect(screen.root.get_by_role("dialog")).to_have_count(0)


def test_a_rejection_is_shown_in_another_view(opened: Opener, story: Story):
    screen = opened(expected_errors=REFUSED)
    held = confirm_deployment(screen, story)
    screen.root.get_by_role("link", name="Deployments").click()
    screen.settled()
    held.refuse("the deploy DAG is paused")
    expect(screen.runs).to_contain_text("Not started: the deploy DAG is paused")
    screen.runs.get_by_role("button", name="Dismiss").click()
    expect(screen.runs).to_have_count(0)


def test_a_rollback_names_the_version_shown(opened: Opener, story: Story):
    screen = opened(expected_errors=REFUSED)
    held = HeldRequests(screen, "**/rollback")
    target = {"items": [{"version": story.second}], "rollback_target": story.first}
    screen.page.route("**/deployments?*", lambda route: route.fulfill(json=target))
    screen.open()
    screen.button("Roll back…").click()
    expect(screen.root.get_by_role("heading", name=f"Roll back from {story.second} to {story.first}")).to_be_focused()
    with screen.page.expect_request("**/rollback"):
        screen.button(f"Roll back to {story.first}", exact=True).click()
    assert held.body() == {"version": story.second, "note": None}
    held.refuse(f"Expected {story.second} to be live")
    expect(screen.root.get_by_role("alert")).to_contain_text(f"Expected {story.second} to be live")


def test_the_confirmation_survives_a_reload_of_the_version(opened: Opener, story: Story):
    screen = opened()
    screen.open(f"versions/{story.second}")
    screen.button("Deploy…").click()
    note = screen.root.get_by_label("Reason")
    note.fill("the shop asks for it")

    def other(route: Route) -> None:
        answer = route.fetch()
        detail = answer.json()
        detail["summary"]["rows"] = 987_654
        route.fulfill(response=answer, json=detail)

    screen.page.route(f"**/adapters/{story.second}", other)
    screen.page.evaluate(CHANGED)
    expect(screen.root.get_by_text("987,654").first).to_be_visible()
    expect(note).to_have_value("the shop asks for it")
    expect(note).to_be_focused()


def test_changing_a_setting_closes_the_confirmation(opened: Opener, story: Story):
    screen = opened()
    screen.open("train")
    screen.root.get_by_label("Epochs").fill("2")
    screen.button("Start training…").click()
    assert "epochs 2" in screen.effects()
    screen.root.get_by_label("Epochs").fill("3")
    expect(screen.root.get_by_role("dialog")).to_have_count(0)


def test_a_partially_typed_year_is_not_requested(opened: Opener, story: Story):
    screen = opened()
    screen.open("train")
    screen.root.get_by_label("Custom window").check()
    screen.root.get_by_label("Until", exact=True).fill("2026-10-12T02:00")
    read: list[str] = []
    screen.page.on("request", lambda request: read.append(request.url))
    for year in ("0002", "0020", "0202"):
        screen.root.get_by_label("From", exact=True).fill(f"{year}-10-05T02:00")
    with screen.page.expect_response("**/preflight?*"):
        screen.root.get_by_label("From", exact=True).fill("2026-10-05T02:00")
    assert len([url for url in read if "/preflight" in url]) == 1, read


@pytest.mark.parametrize("route", ["versions/%", "constructor", "versions?offset=9999", "ledger?offset=9999"])
def test_invalid_addresses_show_a_message(opened: Opener, story: Story, route: str):
    screen = opened(expected_errors=("422", "404"))
    screen.open(route)
    expect(screen.root.get_by_text("Signed in as admin")).to_be_visible()
    message = (
        screen.root.locator("main")
        .get_by_text("Page not found")
        .or_(screen.root.get_by_role("alert"))
        .or_(screen.root.get_by_text("This page does not exist"))
    )
    expect(message.first).to_be_visible()


def test_focus_moves_to_the_content_after_a_retry(opened: Opener, story: Story):
    screen = opened(expected_errors=("500",))
    failing = {"status": 500, "json": {"title": "Broken", "detail": "it is broken"}}
    screen.page.route("**/learning-engine/adapters?*", lambda route: route.fulfill(**failing))
    screen.open("versions")
    screen.page.unroute("**/learning-engine/adapters?*")
    screen.button("Try again").focus()
    screen.page.keyboard.press("Enter")
    table = screen.root.get_by_role("table", name="Versions, newest first")
    expect(table).to_be_visible()
    assert screen.root.locator("main :focus").filter(has=table).count() == 1
