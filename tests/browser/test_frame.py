"""The page inside Airflow: navigation, tab of the weekly DAG, theme, and links out of the sandbox."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PHONE, Opener, Site
from tests.browser.user_story import WEEKLY, Story

pytestmark = pytest.mark.real
# Errors of Airflow's own page.
AIRFLOW_ERRORS = ("/ui/", "/api/v2/")


def test_the_page_is_in_airflows_navigation(opened: Opener, site: Site, story: Story):
    screen = opened(expected_errors=AIRFLOW_ERRORS)
    screen.page.goto(site.live.airflow.url)
    screen.page.get_by_role("link", name="Learning Engine").click()
    frame = screen.page.frame_locator("iframe[title='Learning Engine']")
    expect(frame.get_by_role("heading", name=f"{story.first} is live")).to_be_visible(timeout=60_000)


def test_the_page_is_a_tab_of_the_weekly_dag(opened: Opener, story: Story):
    screen = opened(expected_errors=AIRFLOW_ERRORS)
    screen.frame(f"dags/{WEEKLY}/plugin/learning-engine-dag", f"versions/{story.first}")
    expect(screen.root.get_by_role("heading", name=story.first, exact=True)).to_be_visible()


def test_the_theme_follows_airflow(opened: Opener, story: Story):
    screen = opened(expected_errors=AIRFLOW_ERRORS, color_scheme="light")
    screen.frame()
    page = screen.root.locator("html")
    expect(page).to_have_attribute("data-theme", "light")
    # As Airflow's own menu does.
    screen.page.evaluate("dispatchEvent(new StorageEvent('storage', {key: 'theme', newValue: 'dark'}))")
    expect(screen.page.locator("html.dark")).to_have_count(1)
    expect(page).to_have_attribute("data-theme", "dark")
    screen.page.evaluate("dispatchEvent(new StorageEvent('storage', {key: 'theme', newValue: 'light'}))")
    expect(page).to_have_attribute("data-theme", "light")


def test_a_link_opens_airflows_run_page_in_the_whole_tab(opened: Opener, story: Story):
    screen = opened(expected_errors=AIRFLOW_ERRORS)
    screen.frame()
    screen.root.get_by_role("table", name="Recent runs").get_by_role("link", name="Airflow").first.click()
    expect(screen.page).to_have_url(re.compile(rf"/dags/{WEEKLY}/runs/[^/]"), timeout=30_000)


def test_the_archive_can_be_downloaded_from_the_sandbox(opened: Opener, story: Story):
    screen = opened(expected_errors=AIRFLOW_ERRORS)
    screen.frame(route=f"versions/{story.first}")
    with screen.page.expect_download() as download:
        screen.root.get_by_role("link", name="Archive").click()
    assert download.value.suggested_filename == f"{story.first}.tar.gz"


def test_the_page_can_be_used_on_a_phone(opened: Opener, story: Story):
    screen = opened(expected_errors=AIRFLOW_ERRORS, viewport=PHONE)
    screen.frame()
    screen.root.get_by_role("link", name="Versions").click()
    screen.root.get_by_role("link", name=story.second, exact=True).click()
    screen.button("Deploy…").click()
    expect(screen.button(f"Deploy {story.second}")).to_be_in_viewport()
    screen.button("Cancel").click()
    expect(screen.root.get_by_role("dialog")).to_have_count(0)
