"""The user story in Airflow's frame: inspect, preflight, train, watch, deploy, roll back."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Opener, Site
from tests.browser.user_story import Story

pytestmark = pytest.mark.real


def test_empty_views_say_what_to_do(story: Story):
    assert "The base model is live" in story.before[""]
    assert "No version has been deployed yet" in story.before[""]
    assert "Nothing has been published yet" in story.before["versions"]
    assert "Nothing has been deployed yet" in story.before["ledger"]
    assert "Too few rows" in story.before["preflight"]
    assert "There is no feedback in this window." in story.before["preflight"]


def test_a_paused_dag_is_reported_in_the_confirmation(story: Story):
    assert "paused" in story.refused
    assert "unpause it in Airflow" in story.refused


def test_a_running_training_shows_step_and_curve(story: Story):
    assert "Task loss from" in story.watched
    assert "step " in story.watched
    assert "Task loss" in story.watched


def test_a_pending_approval_is_shown(story: Story):
    assert story.approval_note == f"{story.first} is waiting for approval: approve or reject it in Airflow."


def test_a_confirmation_says_what_the_action_will_change(story: Story):
    assert (
        f"{story.second} becomes live once every replica is ready. Until then {story.first} stays live"
        in story.deploying
    )
    assert f"{story.second} is revoked" in story.rolling_back


def test_overrides_reached_the_run(site: Site, story: Story):
    registry = site.live.resources.registry
    run = site.live.rest.call("GET", f"dags/learning_engine_weekly/dagRuns/{registry.get(story.rejected).run.run_id}")
    assert (run["conf"]["force"], run["conf"]["min_samples"]) == ("count", 50)
    assert registry.get(story.first).config["training"]["epochs"] == 40
    assert run["triggering_user_name"] == "admin"


def test_the_history_shows_the_version_live_at_a_time(opened: Opener, story: Story):
    screen = opened()
    screen.open("ledger")
    for moment, version in zip(story.moments, (story.first, story.second, story.first), strict=True):
        screen.root.get_by_label("Live at (UTC)").fill(moment.strftime("%Y-%m-%dT%H:%M:%S"))
        with screen.page.expect_response("**/deployments/at?**"):
            screen.button("Look up").click()
        expect(screen.root.locator("output")).to_contain_text(f"{moment:%H:%M} UTC {version} was live")


def test_fisher_information_is_recalculated(site: Site, opened: Opener, story: Story):
    screen = opened()
    screen.open(f"versions/{story.first}")
    screen.button("Recalculate Fisher…").click()
    assert "uses it; existing versions do not change" in screen.effects()
    screen.root.get_by_label("Reason").fill("by the page")
    run = screen.confirm(f"Recalculate {story.first}")
    screen.done(run)
    found = site.live.rest.call("GET", f"dags/learning_engine_fisher/dagRuns/{run}")
    assert (found["note"], found["conf"]["version"]) == ("by the page", story.first)


def test_a_run_is_followed_after_a_page_reload(site: Site, opened: Opener, story: Story):
    screen = opened()
    screen.open(f"versions/{story.rejected}")
    screen.button("Deploy…").click()
    assert "The gate rejected it" in screen.effects()
    assert "records that you vouch for it" in screen.effects()
    screen.page.keyboard.press("Escape")
    screen.open(f"versions/{story.first}")
    screen.button("Recalculate Fisher…").click()
    run = screen.confirm(f"Recalculate {story.first}")
    screen.open("versions")
    screen.runs.get_by_text(run).wait_for()
    screen.done(run)
