"""A viewer sees everything and may start nothing; without a login nothing is shown."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Opener
from tests.browser.user_story import Story

pytestmark = pytest.mark.real
# Buttons, and the DAG whose runs each starts.
ACTIONS = {
    "": {"Train…": "weekly", "Roll back…": "deploy"},
    "versions/{}": {"Deploy…": "deploy", "Recalculate Fisher…": "Fisher"},
    "preflight": {"Train on this window…": "weekly"},
    "train": {"Start training…": "weekly"},
}


@pytest.mark.parametrize("route", ACTIONS)
def test_actions_are_disabled_with_a_reason(opened: Opener, story: Story, route: str):
    screen = opened("viewer")
    screen.open(route.format(story.rejected))
    for name, dag in ACTIONS[route].items():
        button = screen.button(name)
        expect(button).to_be_disabled()
        expect(button).to_have_accessible_description(
            f"Expected permission to start runs of the {dag} DAG, found none: ask an Airflow admin for it."
        )


def test_a_viewer_sees_every_view(opened: Opener, story: Story):
    screen = opened("viewer")
    for route in ("", "versions", f"versions/{story.first}", "ledger", "preflight"):
        screen.open(route)
        expect(screen.root.get_by_role("alert")).to_have_count(0)
        assert screen.severe_findings() == []
    screen.open()
    assert story.first in screen.text()


def test_the_server_rejects_a_viewers_action(opened: Opener, story: Story):
    screen = opened("viewer", expected_errors=("403",))
    screen.open()
    status = screen.page.evaluate(
        "(path) => fetch(path, {method: 'POST', body: '{}', headers: {'Content-Type': 'application/json'}})"
        ".then((answer) => answer.status)",
        f"../adapters/{story.second}/deploy",
    )
    assert status == 403


def test_a_missing_login_is_reported_once(opened: Opener):
    screen = opened(None, expected_errors=("401",))
    screen.open()
    alert = screen.root.get_by_role("alert")
    expect(alert).to_have_count(1)
    expect(alert).to_contain_text("You are not signed in")
    link = alert.get_by_role("link", name="Sign in to Airflow")
    expect(link).to_have_attribute("href", f"{screen.url}/")
