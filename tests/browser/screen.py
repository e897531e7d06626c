"""A page object for the page, opened directly or in Airflow's frame."""

from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Error, FrameLocator, Locator, Page, expect

NAVIGATION = "plugin/learning-engine"
# Longer than any polling interval, in milliseconds of the page's clock.
A_MINUTE = 60_000
# Accessibility findings that fail a test; minor and moderate ones are advice.
SEVERE = {"serious", "critical"}


@dataclass
class Screen:
    """One tab. `root` locates elements of the page, whether it is framed or not."""

    page: Page
    url: str
    root: Page | FrameLocator
    errors: list[str] = field(default_factory=list)

    def open(self, route: str = "") -> None:
        """Open a view directly."""
        # Load a new document each time; otherwise only the fragment would change, and the data would stay.
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/learning-engine/page/#/{route}")
        self.root = self.page
        self.settled()

    def frame(self, path: str = NAVIGATION, route: str = "") -> None:
        """Open a view in Airflow's frame, at an address of Airflow's UI."""
        self.page.goto(f"{self.url}/{path}")
        self.root = self.page.frame_locator("iframe[title='Learning Engine']")
        expect(self.root.get_by_role("navigation", name="Learning Engine")).to_be_visible(timeout=60_000)
        if route:
            self.root.locator("body").evaluate("(_, route) => { location.hash = `#/${route}`; }", route)
        self.settled()

    def settled(self) -> None:
        """Wait until every part of the view is loaded."""
        expect(self.root.locator("main h1")).to_have_count(1)
        expect(self.root.locator("main [aria-busy]")).to_have_count(0, timeout=60_000)

    def button(self, name: str, **options: Any) -> Locator:
        return self.root.get_by_role("button", name=name, **options)

    def text(self) -> str:
        return self.root.locator("main").inner_text()

    def confirm(self, verb: str) -> str:
        """Confirm the open confirmation; returns the id of the started run."""
        before = self.runs.locator(".run").count()
        self.button(verb, exact=True).click()
        expect(self.runs.locator(".run")).to_have_count(before + 1, timeout=30_000)
        return self.runs.locator(".run .mono").last.inner_text()

    @property
    def runs(self) -> Locator:
        return self.root.get_by_role("region", name="Runs you started")

    def done(self, run: str, seconds: float = 240) -> None:
        """Wait until the page shows that a run has succeeded, then dismiss it."""
        line = self.runs.locator(".run").filter(has_text=run)
        expect(line).to_contain_text("success", timeout=seconds * 1000)
        line.get_by_role("button").click()
        expect(line).to_have_count(0)

    def effects(self) -> str:
        return self.root.get_by_role("dialog").get_by_role("list").inner_text()

    def severe_findings(self) -> list[str]:
        """The serious and critical axe findings of the open view."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{finding['id']} ({finding['impact']}): {finding['nodes'][0]['html'][:200]}"
            for finding in found
            if finding["impact"] in SEVERE
        ]

    def overflow(self) -> int:
        """By how many pixels the page is wider than the viewport."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))


def watched(page: Page, url: str) -> Screen:
    """A tab that records script errors and policy violations."""
    screen = Screen(page, url, page)

    def keep(message: ConsoleMessage) -> None:
        if message.type == "error":
            screen.errors.append(f"{message.text} ({message.location['url']})")

    def failed(error: Error) -> None:
        screen.errors.append(str(error))

    page.on("console", keep)
    page.on("pageerror", failed)
    return screen
