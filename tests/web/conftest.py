"""Airflow's own api-server with the plugin, in this process, and a bucket with three versions of one lineage."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from fastapi.testclient import TestClient

from demo.object_store import ObjectStore
from learning_engine.registry.store import Store
from tests import tiny
from tests.conftest import HOME
from tests.serving.conftest import model_servers
from tests.steps.conftest import SMALL, Loop, open_loop, week

USERS = {"admin": "admin", "viewer": "viewer"}
TOKEN = "a static token of the tests"
WEEKS = 3
PREFIX = "web"


@dataclass(frozen=True)
class Site:
    """The app and its backend."""

    app: Any
    loop: Loop
    adapters: Path

    def client(self, user: str | None = None, **headers: str) -> TestClient:
        """A client signed in by token as one of USERS, or not signed in."""
        client = TestClient(self.app, base_url="http://airflow.test", headers=headers, raise_server_exceptions=False)
        if user is not None:
            answer = client.post("/auth/token", json={"username": user, "password": f"{user}'s password"})
            client.cookies.clear()
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client


@pytest.fixture(scope="package")
def site(moto: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("web")
    base = tiny.make_base(directory / "base")
    with ExitStack() as stack:
        (server,) = stack.enter_context(model_servers(base, []))
        adapters = directory / "adapters"
        stack.enter_context(mock.patch.dict(os.environ, _environment(directory, base, moto, server.url, adapters)))
        loop = open_loop(directory, moto, server.url)
        database = stack.enter_context(ThreadPoolExecutor(1)).submit(_migrate)
        _learn(loop)
        database.result()
        from airflow.api_fastapi.app import create_app

        app = create_app()
        with TestClient(app):
            yield Site(app, loop, adapters)


@pytest.fixture
def admin(site: Site) -> TestClient:
    return site.client("admin")


@pytest.fixture
def viewer(site: Site) -> TestClient:
    return site.client("viewer")


@pytest.fixture
def anonymous(site: Site) -> TestClient:
    return site.client()


@pytest.fixture
def use_prefix(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Points the app at another prefix of the bucket, such as an empty one."""

    def look_at(prefix: str) -> None:
        backend = _backend(site)
        resources = backend.resources()
        other = Store(resources.store.client, resources.store.bucket, prefix)
        monkeypatch.setattr(backend, "resources", lambda: replace(resources, open_store=lambda: other))

    return look_at


@pytest.fixture
def override_settings(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Overrides settings of one section in the app."""

    def change(section: str, **values: Any) -> None:
        backend = _backend(site)
        changed = getattr(backend.settings, section).model_copy(update=values)
        monkeypatch.setattr(backend, "settings", backend.settings.model_copy(update={section: changed}))

    return change


def _migrate() -> None:
    """Create Airflow's database and serialize the DAGs into it."""
    for command in (("db", "migrate"), ("dags", "reserialize")):
        done = subprocess.run([sys.executable, "-m", "airflow", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def _backend(site: Site) -> Any:
    """The backend of the app, which is built at the first request."""
    site.client().get("/learning-engine/live")
    (mount,) = [route for route in site.app.routes if getattr(route, "path", "") == "/learning-engine"]
    return mount.app._app.state.backend


def _environment(directory: Path, base: Path, s3: ObjectStore, server: str, adapters: Path) -> dict[str, str]:
    passwords = directory / "passwords.json"
    passwords.write_text(json.dumps({user: f"{user}'s password" for user in USERS}))
    extra = {"endpoint_url": s3.endpoint, "region_name": s3.region}
    connections = {
        "STORE": {"conn_type": "aws", "login": s3.access_key, "password": s3.secret_key, "extra": extra},
        "SERVING": {"conn_type": "http", "extra": {"replicas": [server], "adapter_dir": str(adapters)}},
    }
    own = {
        "MODEL__BASE": str(base),
        "FEEDBACK__PATH": str(directory / "feedback.jsonl"),
        "STORE__SPOOL": str(directory / "spool"),
        "STORE__PREFIX": PREFIX,
        "WEB__TOKEN": TOKEN,
    }
    return {
        **{f"LEARNING_ENGINE__{name}": value for name, value in {**SMALL, **own}.items()},
        **{f"AIRFLOW_CONN_LEARNING_ENGINE_{name}": json.dumps(value) for name, value in connections.items()},
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of the tests that is long enough for a JWT",
    }


def _learn(loop: Loop) -> None:
    """Deploy v1.0, then v1.1; v1.2 is rejected."""
    loop.teach(*range(WEEKS))
    for number in range(2):
        loop.serve(loop.learn(week(number)), run_id=f"week {number}")
    rejected = loop.with_settings(gate={"max_kl_parent": 0.0}).learn(week(2))
    assert not rejected.accepted
