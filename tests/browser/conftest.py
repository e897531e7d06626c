"""The page in Debian's Chromium, against the real api-server of a full stack used only by the browser tests.

`story` drives the page from an empty stack to one with a live, a revoked and a rejected version; the tests inspect it.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from demo import postgres
from demo.processes import Stack
from tests.browser.screen import Screen, watched
from tests.browser.user_story import Story, run_story
from tests.integration import assembly
from tests.integration.conftest import SETTINGS, Live
from tests.programs import missing

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
USERS = ("admin", "viewer")
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
# Short time-outs for an unresponsive store.
QUICK = {"STORE__CONNECT_TIMEOUT_SECONDS": "2", "STORE__READ_TIMEOUT_SECONDS": "2"}

# The first test waits for the stack and the whole story.
SECONDS = 1200

Opener = Callable[..., Screen]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/browser/" in item.nodeid:
            item.add_marker(pytest.mark.timeout(SECONDS))


@dataclass(frozen=True)
class Site:
    """The stack, a browser, and the sessions of the signed-in users."""

    live: Live
    browser: Browser
    sessions: dict[str, Any]

    def context(self, user: str | None, **options: Any) -> BrowserContext:
        options = {"viewport": DESKTOP, "reduced_motion": "reduce", **options}
        return self.browser.new_context(storage_state=self.sessions[user] if user else None, **options)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        missing("chromium is missing")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield opened
        opened.close()


@pytest.fixture(scope="package")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("browser")
    stack = Stack(directory)
    users = {"CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{user}" for user in USERS)}
    try:
        live = Live(stack, *assembly.start(stack, directory, settings={**SETTINGS, **QUICK}, options=users))
        # The api-server creates missing passwords when it starts.
        passwords = json.loads((live.airflow.home / "passwords.json").read_text())
        sessions = {user: _session(browser, live.airflow.url, user, passwords[user]) for user in USERS}
        yield Site(live, browser, sessions)
    finally:
        stack.stop()
        postgres.remove(directory / "postgres")


def _session(browser: Browser, url: str, user: str, password: str) -> Any:
    """The browser's session after a login through Airflow's own form."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    expect(page).not_to_have_url(f"{url}/auth/login", timeout=60_000)
    page.wait_for_url(lambda now: "/auth/" not in now, timeout=60_000)
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture(scope="package")
def story(site: Site) -> Story:
    context = site.context("admin")
    screen = watched(context.new_page(), site.live.airflow.url)
    played = run_story(site.live, screen)
    context.close()
    assert not screen.errors, screen.errors
    return played


@pytest.fixture
def opened(site: Site, story: Story) -> Iterator[Opener]:
    """Opens a tab as a user, or without a login. At the end, no tab may have had an error outside `expected_errors`."""
    contexts: list[BrowserContext] = []
    screens: list[tuple[Screen, tuple[str, ...]]] = []

    def open_tab(user: str | None = "admin", *, expected_errors: tuple[str, ...] = (), **options: Any) -> Screen:
        contexts.append(site.context(user, **options))
        page: Page = contexts[-1].new_page()
        screens.append((watched(page, site.live.airflow.url), expected_errors))
        return screens[-1][0]

    yield open_tab
    for context in contexts:
        context.close()
    for screen, expected_errors in screens:
        unexpected = [error for error in screen.errors if not any(part in error for part in expected_errors)]
        assert not unexpected, unexpected
