"""Run the init service with its environment from the compose file: database, user, pools, bucket."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from moto.server import ThreadedMotoServer
from sqlalchemy import create_engine, text

from tests.production.conftest import ROOT


@pytest.fixture
def store() -> Any:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.timeout(600)
def test_init_creates_database_user_pools_and_bucket(services: dict[str, Any], store: str, tmp_path: Path) -> None:
    init = services["init"]
    database = f"sqlite:///{tmp_path}/airflow.db"
    environment = {key: str(value) for key, value in init["environment"].items()} | {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "PYTHONPATH": str(ROOT / "plugins"),
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
    }
    connection = "AIRFLOW_CONN_LEARNING_ENGINE_STORE"
    environment[connection] = environment[connection].replace("http://minio:9000", store)
    shell, flags, script = init["command"]
    done = subprocess.run(
        [shell, flags, script.replace("$$", "$")], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    with create_engine(database).connect() as open_database:
        pools = dict(open_database.execute(text("SELECT pool, slots FROM slot_pool")).all())
        users = open_database.execute(text("SELECT username FROM ab_user")).scalars().all()
    assert pools.items() >= {"gpu": 1, "learning_engine_registry": 1}.items()
    assert users == [init["environment"]["ADMIN_USER"]]
    assert requests.head(f"{store}/lora-adapters", timeout=10).status_code == 200
    assert init["environment"]["ADMIN_PASSWORD"] not in done.stdout + done.stderr
