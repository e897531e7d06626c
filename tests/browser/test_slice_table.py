"""The table of slices, alone on a page: values from users are shown as text, and the table is accessible."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from learning_engine.records.report import Content, Slice
from learning_engine.web import page as files
from tests.browser.conftest import DESKTOP, PHONE
from tests.browser.screen import Screen, watched

pytestmark = pytest.mark.real
ADDRESS = "http://page.test"
EVIL = "<img src=x onerror=\"document.title='run'\">"
FELL = Slice(
    "language", "de", 14, 2.1, 1.92, 3.0, 0.1, 0.5, 0.6, Content(9, 8, 0.75), retained=0.4, windows=2, fell=True
)
FRAME = """<!doctype html><html lang="en"><title>slices</title><link rel="stylesheet" href="/static/style.css">
<main><h1>v1.1</h1><h2>Losses</h2><div id="place"></div></main><script type="module">
import { sliceTable } from "/static/slice_table.js";
document.getElementById("place").append(sliceTable({ slices: SLICES }));
</script>"""


@pytest.fixture
def opened(browser: Browser) -> Iterator[Any]:
    """Opens a page with the table of the given slices."""
    tabs = []

    def serve(route: Route, slices: list[dict[str, Any]]) -> None:
        path = route.request.url.removeprefix(ADDRESS)
        if path == "/":
            text = json.dumps(slices).replace("<", "\\u003c")
            route.fulfill(content_type="text/html", body=FRAME.replace("SLICES", text))
            return
        file = files.files()[path.removeprefix("/static/")]
        kind = "text/javascript" if path.endswith(".js") else "text/css"
        route.fulfill(content_type=kind, body=file.body)

    def open_tab(*slices: Slice, size: dict[str, int] = DESKTOP) -> Screen:
        tab: Page = browser.new_page(viewport=size)
        tabs.append(tab)
        screen = watched(tab, ADDRESS)
        tab.route("**/*", lambda route: serve(route, [part.to_json() for part in slices]))
        tab.goto(f"{ADDRESS}/")
        expect(tab.locator("#place > *")).to_have_count(1)
        return screen

    yield open_tab
    for tab in tabs:
        tab.close()


def test_values_are_shown_as_text_and_those_that_fell_are_marked(opened: Any) -> None:
    screen = opened(FELL, Slice("language", "", 9), Slice("product", EVIL, 8))
    rows = screen.page.get_by_role("table", name="Figures by slice").get_by_role("row")
    expect(rows.nth(1)).to_contain_text("language=de fell")
    expect(rows.nth(1).get_by_role("cell")).to_have_text(
        ["14", "2.100", "1.920", "3.000", "0.500", "0.600", "75 %", "40 %"]
    )
    expect(rows.nth(2)).to_contain_text("language=(none)")
    expect(rows.nth(3).get_by_role("rowheader")).to_have_text(f"product={EVIL}")
    assert screen.page.title() == "slices"
    assert not screen.errors


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("slices", [[], [FELL], [replace(FELL, value=f"{n:x>60}") for n in range(13)]], ids=len)
def test_the_table_is_accessible_and_does_not_overflow(opened: Any, slices: list[Slice], size: dict[str, int]) -> None:
    screen = opened(*slices, size=size)
    for summary in screen.page.locator("main summary").all():
        summary.click()
    assert screen.severe_findings() == []
    assert screen.overflow() <= 0
