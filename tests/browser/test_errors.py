"""The page without answers from the server: it reports errors, keeps old content, and recovers automatically."""

from collections.abc import Iterator

import psutil
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Opener, Site
from tests.browser.screen import A_MINUTE
from tests.browser.user_story import Story

pytestmark = pytest.mark.real
# The browser logs every failed request.
FAILED = ("Failed to load resource",)


@pytest.fixture
def silent_store(site: Site, story: Story) -> Iterator[None]:
    """The object store accepts connections and never answers."""
    (store,) = [running.leader() for running in site.live.stack.running() if running.name == "object-store"]
    assert isinstance(store, psutil.Process)
    family = [store, *store.children(recursive=True)]
    for process in family:
        process.suspend()
    yield
    for process in family:
        process.resume()


@pytest.mark.parametrize("route", ["", "versions", "versions/{}", "ledger"])
def test_an_unresponsive_store_is_reported_with_a_retry_button(
    opened: Opener, story: Story, silent_store: None, route: str
):
    screen = opened(expected_errors=FAILED)
    screen.open(route.format(story.first))
    alert = screen.root.get_by_role("alert").first
    expect(alert).to_contain_text("could not be read")
    expect(alert).to_contain_text("check that the store of the connection can be reached")
    expect(alert.get_by_role("button", name="Try again")).to_be_visible()
    assert screen.severe_findings() == []


def test_old_content_stays_and_is_marked_as_outdated(site: Site, opened: Opener, story: Story):
    screen = opened(expected_errors=FAILED)
    screen.page.clock.install()
    screen.open()
    screen.page.context.set_offline(True)
    screen.page.clock.fast_forward(A_MINUTE)
    expect(screen.root.get_by_text("This may be out of date").first).to_be_visible()
    expect(screen.root.get_by_role("heading", name=f"{story.first} is live")).to_be_visible()
    screen.page.context.set_offline(False)
    screen.page.clock.fast_forward(A_MINUTE)
    expect(screen.root.get_by_text("This may be out of date")).to_have_count(0, timeout=60_000)


def test_a_hidden_tab_sends_no_requests_until_it_is_shown(opened: Opener, story: Story):
    screen = opened()
    screen.page.clock.install()
    screen.open()
    hide = "(hidden) => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
    hide += " document.dispatchEvent(new Event('visibilitychange')); }"
    asked: list[str] = []
    screen.page.evaluate(hide, True)
    screen.page.on("request", lambda request: asked.append(request.url))
    screen.page.clock.run_for(300_000)
    assert asked == []
    with screen.page.expect_request("**/training/status**"):
        screen.page.evaluate(hide, False)
