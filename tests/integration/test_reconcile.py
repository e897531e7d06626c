"""The reconcile DAG repairs a restarted replica and rolls back a version that users like less."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from learning_engine.records.contracts import AdapterVersion, Deployment
from learning_engine.serving import rollout
from learning_engine.steps import placement
from tests.integration.conftest import Live, rows_of, until
from tests.integration.test_manual_runs import DEPLOY, run_week

RECONCILE = "learning_engine_reconcile"
VOTES = 30


@pytest.fixture(scope="module")
def pair(live: Live) -> Iterator[tuple[AdapterVersion, AdapterVersion]]:
    """Two versions with probes that are not revoked; the second is live, deployed after the first.

    The reconcile DAG is unpaused meanwhile.
    """
    live.rest.unpause(DEPLOY)
    registry = live.resources.registry
    for number in range(4):
        versions = [version for version in registry.versions() if version.report.probes is not None]
        usable = [version for version in versions if not registry.revoked(version.version)]
        if len(usable) >= 2:
            break
        live.add_feedback(rows_of(number))
        run = run_week(live, number)
        assert live.state(run) == "success", live.explain(run)
    first, second = usable[-2:]
    deploy(live, first)
    deploy(live, second)
    live.rest.unpause(RECONCILE)
    yield first, second
    live.rest.call("PATCH", f"dags/{RECONCILE}", json={"is_paused": True})


def deploy(live: Live, version: AdapterVersion) -> None:
    run = live.trigger(DEPLOY, conf={"action": "deploy", "version": version.version})
    assert live.wait_for_end(run, DEPLOY) == "success", live.explain(run, DEPLOY)


def current(live: Live) -> Deployment:
    found = live.resources.ledger.current()
    assert found is not None
    return found


def test_a_restarted_replica_gets_its_adapters_back(live: Live, pair: tuple[AdapterVersion, AdapterVersion]):
    replica = live.replica
    before = current(live)
    names = [placement.server_name(live.resources, version) for version in pair]
    assert set(names) <= set(replica.models())
    live.restart_model_server()
    until("both adapters to be back", lambda: set(names) <= set(replica.models()), 90)
    assert sorted(replica.models()[1:]) == sorted(names)
    probes = placement.probes(live.resources, pair[1])
    assert rollout.prove(replica, names[1], probes) == len(probes) > 0
    assert current(live) == before


def test_a_version_that_users_like_less_is_rolled_back(live: Live, pair: tuple[AdapterVersion, AdapterVersion]):
    first, second = pair
    entries = live.resources.ledger.entries()
    now, earlier = entries[0], next(entry for entry in entries[1:] if entry.version == first.version)
    add_votes(live, "before", earlier.at, now.at, "thumbs_up")
    add_votes(live, "after", now.at, datetime.now(UTC), "thumbs_down")
    until("the rollback", lambda: current(live).version == first.version, 120)
    entry = current(live)
    assert (entry.action, entry.previous, entry.proven) == ("rollback", second.version, True)
    assert entry.decided_by.startswith("monitoring: thumbs down rose from 0.0% of 30 votes")
    assert entry.run.dag_id == RECONCILE
    # The revocation is written after the ledger entry.
    revocation = until("the revocation", lambda: live.resources.registry.revoked(second.version), 60)
    assert revocation.by == entry.decided_by


def add_votes(live: Live, name: str, start: datetime, end: datetime, thumb: str) -> None:
    """Add VOTES votes of different users, evenly distributed within (start, end)."""
    step: timedelta = (end - start) / (VOTES + 1)
    live.add_feedback(
        [
            {
                **row,
                "feedback_type": thumb,
                "created_at": (start + (index + 1) * step).isoformat(),
                "request_data": {"messages": [{"role": "user", "content": f"{name} {index}"}]},
                "user_id": f"{name} {index}",
                "conversation_id": f"{name}-{index}",
            }
            for index, row in enumerate(rows_of(0, VOTES))
        ]
    )
