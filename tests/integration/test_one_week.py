"""One week on the complete stack, run by the scheduler: from thumbs to a live version."""

from tests.integration.conftest import Live, rows_of, until, week
from tests.integration.test_manual_runs import DEPLOY, WEEKLY


def test_a_week_of_thumbs_is_learned_and_deployed_automatically(live: Live):
    live.add_feedback(rows_of(4))
    live.rest.unpause(WEEKLY)
    (run,) = until("the scheduled run", lambda: runs(live), 60)
    assert live.wait_for_end(run) == "success", live.explain(run)
    assert set(live.states(run).values()) == {"success"}

    (version,) = live.resources.registry.versions()
    assert (version.version, version.parent, version.window) == ("v1.0", None, week(4))
    now = live.resources.ledger.current()
    assert (now.version, now.decided_by, now.proven) == ("v1.0", "the gate", True)
    assert live.xcom(run, "publish")["sha256"] == version.sha256


def test_deploying_an_unknown_version_fails_at_once_and_changes_nothing(live: Live):
    live.rest.unpause(DEPLOY)
    run = live.trigger(DEPLOY, conf={"action": "deploy", "version": "v99.0"})
    assert live.wait_for_end(run, DEPLOY) == "failed"
    assert live.tasks(run, DEPLOY)["choose"]["try_number"] == 1
    assert "found no v99.0" in live.log(run, "choose", DEPLOY)
    assert live.resources.ledger.current().version == "v1.0"


def runs(live: Live) -> list[str]:
    return [str(run["dag_run_id"]) for run in live.rest.call("GET", f"dags/{WEEKLY}/dagRuns")["dag_runs"]]
