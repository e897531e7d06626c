"""Each view shows the API's data; accessibility in both themes, on desktop and phone."""

import re
from typing import Any

import pytest
import requests
from playwright.sync_api import expect

from tests.browser.conftest import DESKTOP, PHONE, Opener, Site
from tests.browser.user_story import Story

pytestmark = pytest.mark.real
VIEWS = ("", "versions", "version", "rejected", "ledger", "preflight", "train", "nothing")


def ask(site: Site, path: str, **params: Any) -> Any:
    headers = {"Authorization": f"Bearer {site.live.rest.token()}"}
    url = f"{site.live.airflow.url}/learning-engine/{path}"
    answer = requests.get(url, headers=headers, params=params, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def route(view: str, story: Story) -> str:
    return {"version": f"versions/{story.second}", "rejected": f"versions/{story.rejected}"}.get(view, view)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_accessible_and_does_not_overflow(
    opened: Opener, story: Story, view: str, size: dict[str, int], theme: str
):
    screen = opened(viewport=size, color_scheme=theme)
    screen.open(route(view, story))
    for summary in screen.root.locator("main summary").all():
        summary.click()
    screen.settled()
    assert screen.root.locator("html").get_attribute("data-theme") == theme
    assert screen.severe_findings() == []
    assert screen.overflow() <= 0


def test_the_overview_shows_live_version_runs_and_health(site: Site, opened: Opener, story: Story):
    screen = opened()
    screen.open()
    live = ask(site, "live")
    expect(screen.root.get_by_role("heading", name=f"{story.first} is live")).to_be_visible()
    assert live["model"] in screen.text()
    assert "Verified on every replica" in screen.text()
    assert "Signed in as admin" in screen.root.get_by_role("banner").inner_text()
    recent = screen.root.get_by_role("table", name="Recent runs")
    expect(recent).to_contain_text("not deployed: the gate rejected it")
    expect(recent).to_contain_text("deployed: nothing is live yet")
    expect(recent).to_contain_text(re.compile(r"not trained: \d+ rows, \d+ are needed"))
    screen.root.locator(".health summary").click()
    health = screen.root.get_by_role("table", name="Health of each component")
    for check in ask(site, "health")["checks"]:
        expect(health.get_by_role("row").filter(has_text=check["name"]).first).to_contain_text(check["state"])


def test_the_list_of_versions_can_be_filtered(opened: Opener, story: Story):
    screen = opened()
    screen.open("versions")
    table = screen.root.get_by_role("table", name="Versions, newest first")
    rows = table.get_by_role("row")
    expect(rows.filter(has_text=story.first).first).to_be_visible()
    expect(rows.filter(has_text=f"{story.second}")).to_have_count(2)  # itself, and the one that continues it
    expect(rows.filter(has_text="Live")).to_contain_text(story.first)
    expect(rows.filter(has_text="Revoked")).to_contain_text(story.second)
    expect(rows.filter(has_text="Rejected")).to_contain_text(story.rejected)
    screen.root.get_by_label("Gate").select_option("Rejected")
    expect(rows).to_have_count(2)
    assert screen.page.url.endswith("#/versions?accepted=false")
    revocation = screen.root.get_by_label("Revocation")
    revocation.focus()
    revocation.select_option("Revoked")
    expect(screen.root.get_by_role("main")).to_contain_text("No matching versions")
    expect(revocation).to_be_focused()


def test_the_version_view_shows_rules_matrix_digests_and_card(site: Site, opened: Opener, story: Story):
    screen = opened()
    screen.open(f"versions/{story.second}")
    detail = ask(site, f"adapters/{story.second}")
    report = detail["metadata"]["report"]
    rules = screen.root.get_by_role("table", name="Gate rules")
    for rule in report["rules"]:
        row = rules.get_by_role("row").filter(has=screen.page.get_by_role("rowheader", name=rule["name"], exact=True))
        expect(row).to_contain_text("passed" if rule["passed"] else "failed")
        expect(row).to_contain_text(rule["why"])
    matrix = screen.root.get_by_role("region", name="Matrix R").get_by_role("table")
    own = matrix.get_by_role("row").filter(has=screen.page.get_by_role("rowheader", name=story.second))
    expect(own.get_by_role("cell")).to_have_text([f"{report['scores'][story.first]:.3f}", f"{report['loss']:.3f}"])
    assert screen.root.get_by_role("img").get_attribute("aria-label").startswith("Task loss from")
    assert screen.text().count("Revoked") >= 1
    assert f"rolled back to {story.first}" in screen.text()
    screen.root.get_by_text("Digests (sha256)").click()
    for uri, sha256 in detail["digests"].items():
        assert uri in screen.text()
        assert sha256 in screen.text()
    screen.root.get_by_role("heading", name="Model card").click()
    expect(screen.root.get_by_text("A LoRA adapter of")).to_be_visible()


def test_the_archive_is_the_published_one(site: Site, opened: Opener, story: Story):
    screen = opened()
    screen.open(f"versions/{story.first}")
    with screen.page.expect_download() as download:
        screen.root.get_by_role("link", name="Archive").click()
    path = download.value.path()
    assert path.stat().st_size == site.live.resources.registry.get(story.first).size
    assert download.value.suggested_filename == f"{story.first}.tar.gz"


def test_the_preflight_view_shows_the_apis_figures(site: Site, opened: Opener, story: Story):
    window = site.live.resources.registry.get(story.first).window
    times = {"start": window.start.isoformat(), "end": window.end.isoformat()}
    found = ask(site, "preflight", **times)
    screen = opened()
    screen.open(f"preflight?start={window.start:%Y-%m-%dT%H:%M:%SZ}&end={window.end:%Y-%m-%dT%H:%M:%SZ}")
    assert found["count_gate"]["why"] in screen.text()
    assert found["memory"]["why"] in screen.text()
    assert f"{found['thumbs_up']} up, {found['thumbs_down']} down" in screen.text()


def test_an_unknown_version_is_reported(opened: Opener):
    screen = opened(expected_errors=("404",))
    screen.open("versions/v99.0")
    expect(screen.root.get_by_role("alert")).to_contain_text("found no v99.0")
