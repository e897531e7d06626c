"""Manual runs through the real scheduler: deploy, roll back, measure, clean up; and a server that is down.

The effect of a rollback (ledger, pointer, server) is proven here, and in test_reconcile the revocation that goes with
it. The tests of the command line and of the page prove only that they start it, and what they say.
"""

from learning_engine.serving import rollout
from learning_engine.steps import placement
from tests.integration.conftest import Live, rows_of, until, week

WEEKLY, DEPLOY = "learning_engine_weekly", "learning_engine_deploy"


def run_week(live: Live, number: int, **conf: object) -> str:
    """Run the weekly DAG over week `number` to its end; return the run's id."""
    window = {"window_start": week(number).start.isoformat(), "window_end": week(number).end.isoformat()}
    live.rest.unpause(WEEKLY)
    run = live.trigger(conf={**window, **conf})
    live.wait_for_end(run)
    return run


def scheduled_states(live: Live) -> list[str]:
    runs = live.rest.call("GET", f"dags/{WEEKLY}/dagRuns", params={"limit": 100})["dag_runs"]
    return [run["state"] for run in runs if run["run_type"] == "scheduled"]


def test_deploy_manually_then_roll_back(live: Live):
    for name in ("deploy", "fisher", "maintenance"):
        live.rest.unpause(f"learning_engine_{name}")
    registry, ledger = live.resources.registry, live.resources.ledger
    if not registry.versions():
        # Otherwise last week's scheduled run would use part of the feedback.
        live.rest.unpause(WEEKLY)
        until("last week's scheduled run to end", lambda: scheduled_states(live) == ["success"], seconds=300)
        for number in range(2):
            live.add_feedback(rows_of(number))
            run = run_week(live, number)
            assert live.state(run) == "success", live.explain(run)
    first = registry.versions()[0].version
    before = ledger.current()

    run = live.trigger(DEPLOY, conf={"action": "deploy", "version": first})
    assert live.wait_for_end(run, DEPLOY) == "success", live.explain(run, DEPLOY)
    assert (ledger.current().version, ledger.current().decided_by) == (first, "admin, by hand")

    run = live.trigger(DEPLOY, conf={"action": "rollback"})
    assert live.wait_for_end(run, DEPLOY) == "success", live.explain(run, DEPLOY)
    entry, back = ledger.current(), registry.get(before.version)
    assert (entry.action, entry.version, entry.previous) == ("rollback", before.version, first)
    assert (entry.run.run_id, entry.decided_by, entry.proven) == (run, "admin, by hand", before.proven)
    assert live.replica.models().count(entry.adapter_name) == 1
    probes = placement.probes(live.resources, back)
    assert rollout.prove(live.replica, entry.adapter_name, probes) == len(probes), "it answers with its own weights"
    assert [version.version for version in registry.lineage(before.version)][-1] == first
    assert registry.revoked(first) is None, "the live version descends from it"


def test_fisher_of_a_version_is_measured_again(live: Live):
    live.rest.unpause("learning_engine_fisher")
    version = live.resources.registry.versions()[0].version
    run = live.trigger("learning_engine_fisher", conf={"version": version})
    assert live.wait_for_end(run, "learning_engine_fisher") == "success", live.explain(run, "learning_engine_fisher")
    record = live.xcom(run, "fisher_of_version", dag_id="learning_engine_fisher")
    assert (record["guards"], record["kind"], record["units"]) == (version, "kronecker", "unit_layer_trace")
    store = live.resources.store
    assert store.digest(store.key(record["uri"])) == record["sha256"]


def test_maintenance_sweeps_and_finds_everything_intact(live: Live):
    dag = "learning_engine_maintenance"
    live.rest.unpause(dag)
    run = live.trigger(dag, conf={"dry_run": True})
    assert live.wait_for_end(run, dag) == "success", live.explain(run, dag)
    audited = live.xcom(run, "audit", dag_id=dag)
    assert audited == {"versions": len(live.resources.registry.versions()), "findings": []}


def test_deploying_to_a_server_that_is_down_fails_and_leaves_the_pointer(live: Live):
    live.rest.unpause(DEPLOY)
    ledger = live.resources.ledger
    before = ledger.current()
    target = next(v.version for v in live.resources.registry.versions() if v.version != before.version)
    live.end_model_server()
    run = live.trigger(DEPLOY, conf={"action": "deploy", "version": target})
    try:
        assert live.wait_for_end(run, DEPLOY) == "failed"
        assert live.tasks(run, DEPLOY)["deploy"]["try_number"] == 2
        assert "NoAnswer" in live.log(run, "deploy", DEPLOY)
        assert ledger.current() == before
    finally:
        live.stack.up(live.model_server)
