"""Keyboard operation: the focus is visible, follows the user, and survives updates."""

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Opener
from tests.browser.screen import A_MINUTE, Screen
from tests.browser.user_story import Story

pytestmark = pytest.mark.real
TABS = 60


def tab_to(screen: Screen, target: Locator) -> None:
    """Press Tab until `target` has the focus. Every stop on the way must show a focus outline."""
    for _ in range(TABS):
        screen.page.keyboard.press("Tab")
        focus = screen.root.locator(":focus")
        if focus.count() == 0:
            continue
        outline = focus.evaluate("(element) => getComputedStyle(element).outlineStyle")
        assert outline != "none", focus.evaluate("(element) => element.outerHTML.slice(0, 120)")
        if target.evaluate("(element) => element === document.activeElement"):
            return
    raise AssertionError(f"{target} could not be reached with {TABS} tabs")


def test_the_keyboard_leads_from_the_overview_to_a_confirmation_and_back(opened: Opener, story: Story):
    screen = opened()
    screen.open()
    tab_to(screen, screen.root.get_by_role("link", name="Versions"))
    screen.page.keyboard.press("Enter")
    expect(screen.root.get_by_role("heading", name="Versions", level=1)).to_be_visible()
    expect(screen.root.locator("main")).to_be_focused()
    screen.settled()
    tab_to(screen, screen.root.get_by_role("link", name=story.second, exact=True))
    screen.page.keyboard.press("Enter")
    screen.settled()
    deploy = screen.button("Deploy…")
    tab_to(screen, deploy)
    screen.page.keyboard.press("Enter")
    expect(screen.root.get_by_role("heading", name=f"Deploy {story.second} in place of")).to_be_focused()
    tab_to(screen, screen.root.get_by_label("Reason"))
    tab_to(screen, screen.button(f"Deploy {story.second}", exact=True))
    screen.page.keyboard.press("Escape")
    expect(screen.root.get_by_role("dialog")).to_have_count(0)
    expect(deploy).to_be_focused()


def test_the_keyboard_starts_an_action_and_regains_the_focus_when_its_run_ends(opened: Opener, story: Story):
    screen = opened()
    screen.open(f"versions/{story.first}")
    tab_to(screen, screen.button("Recalculate Fisher…"))
    screen.page.keyboard.press("Enter")
    tab_to(screen, screen.button(f"Recalculate {story.first}", exact=True))
    screen.page.keyboard.press("Enter")
    line = screen.runs.locator(".run").first
    expect(line).to_contain_text("success", timeout=240_000)
    expect(screen.button("Recalculate Fisher…")).to_be_focused()
    expect(screen.root.get_by_role("status").last).to_contain_text("done")


def test_skip_to_content_moves_the_focus_to_the_main_part(opened: Opener, story: Story):
    screen = opened()
    screen.open("ledger")
    tab_to(screen, screen.button("Skip to content"))
    screen.page.keyboard.press("Enter")
    expect(screen.root.locator("main")).to_be_focused()


def test_focus_survives_a_refresh_of_the_overview(opened: Opener, story: Story):
    screen = opened()
    screen.page.clock.install()
    screen.open()
    link = screen.root.get_by_role("table", name="Recent runs").get_by_role("link").first
    link.focus()
    for _ in range(2):
        with screen.page.expect_response("**/training/status**"):
            screen.page.clock.fast_forward(A_MINUTE)
        screen.settled()
    expect(link).to_be_focused()
