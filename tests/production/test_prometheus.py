"""The alerts and the dashboard's queries in a real Prometheus with the scrape configuration of docs/metrics.md."""

import itertools
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from demo.object_store import ObjectStore
from demo.ports import LOOPBACK, free_port
from learning_engine.steps.resources import Resources
from learning_engine.web import metrics
from tests.object_stores import new_bucket
from tests.production.conftest import ROOT
from tests.production.test_dashboard import ALERTS, queries, rules
from tests.programs import missing
from tests.web.populated_bucket import DURATIONS, populate, resources_of

pytestmark = pytest.mark.real

TOKEN = "a token that is long enough"
# Queries without a result, since nothing has happened that they count; every other query has one.
QUIET = {"Rollbacks", *(rule["alert"] for rule in rules())} - {"LearningEngineVersionRejected"}
AREA = 'learning_engine_storage_bytes{area="runs"}'
ROLLBACKS = 'learning_engine_deployments_total{action="rollback"}'
ENTRIES = 'learning_engine_storage_objects{area="deployments"}'
ARCHIVE = "learning_engine_live_archive_present"
CREATED = 'learning_engine_newest_created_seconds{version="v1.0"}'
LIVE = 'learning_engine_live{version="v1.0", adapter="v1.0-0"}'

# Alert, interval, series in promtool's notation, time of evaluation, and whether the alert fires then.
CASES: list[tuple[str, str, dict[str, str], str, bool]] = [
    ("NotScraped", "1m", {"learning_engine_info": "1x5 _x30"}, "30m", True),
    ("NotScraped", "1m", {"learning_engine_info": "1x30"}, "30m", False),
    ("NoNewVersion", "5m", {CREATED: "0x3000"}, "242h", True),
    ("NoNewVersion", "5m", {CREATED: "0x3000"}, "239h", False),
    ("VersionRejected", "1m", {'learning_engine_newest_accepted{version="v1.2"}': "0x9"}, "5m", True),
    ("VersionRejected", "1m", {'learning_engine_newest_accepted{version="v1.2"}': "1x9"}, "5m", False),
    ("LiveVersionLost", "1m", {ARCHIVE: "0x30", LIVE: "1x30"}, "20m", True),
    ("LiveVersionLost", "1m", {ENTRIES: "4x30"}, "20m", True),
    ("LiveVersionLost", "1m", {ENTRIES: "0x30"}, "20m", False),
    ("LiveVersionLost", "1m", {ENTRIES: "4x30", LIVE: "1x30", ARCHIVE: "1x30"}, "20m", False),
    ("UnreadableObjects", "1m", {'learning_engine_unreadable_objects{area="runs"}': "1x30"}, "20m", True),
    ("UnreadableObjects", "1m", {'learning_engine_unreadable_objects{area="runs"}': "1x5 0x30"}, "20m", False),
    ("RolledBack", "1m", {ROLLBACKS: "0x10 1x30"}, "30m", True),
    ("RolledBack", "1m", {ROLLBACKS: "0x10 1x100"}, "90m", False),
    # While an entry cannot be read the counter is absent; afterwards it continues from its old value.
    ("RolledBack", "1m", {ROLLBACKS: "3x10 _x5 3x30"}, "30m", False),
    ("TrainingStuck", "1m", {"learning_engine_training_updated_seconds": "0x30"}, "20m", True),
    ("TrainingStuck", "1m", {"learning_engine_training_updated_seconds": "0+60x30"}, "20m", False),
    ("TrainingStuck", "1m", {"learning_engine_training_updated_seconds": "0x5 _x30"}, "20m", False),
    ("StorageGrowth", "5m", {AREA: "20e9x2016 40e9x100"}, "172h", True),
    ("StorageGrowth", "5m", {AREA: "1e9x2016 9e9x100"}, "172h", False),
    ("StorageGrowth", "5m", {AREA: "100e9x2016 115e9x100"}, "172h", False),
]  # fmt: skip


@pytest.fixture(scope="module")
def promtool() -> str:
    return shutil.which("promtool") or missing("promtool is missing")


@pytest.fixture(scope="module")
def resources(moto: ObjectStore) -> Resources:
    return resources_of(populate(new_bucket(moto)))


@pytest.fixture(scope="module")
def prometheus(resources: Resources, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus that has scraped the bucket's metrics."""
    program = shutil.which("prometheus") or missing("prometheus is missing")
    directory, port = tmp_path_factory.mktemp("prometheus"), free_port()
    with site(resources) as target:
        configuration = directory / "prometheus.yml"
        configuration.write_text(json.dumps(scrape_configuration(directory, target)))
        command = [program, f"--config.file={configuration}", f"--web.listen-address={LOOPBACK}:{port}"]
        log = (directory / "log").open("w")
        process = subprocess.Popen([*command, f"--storage.tsdb.path={directory / 'data'}"], stdout=log, stderr=log)
        try:
            address = f"http://{LOOPBACK}:{port}"
            wait_for(address, process, directory / "log")
            yield address
        finally:
            process.terminate()
            process.wait(30)
            log.close()


def scrape_configuration(directory: Path, target: str) -> dict[str, Any]:
    """The configuration on the page, with this target and token, scraping every second."""
    (page,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "metrics.md").read_text(), re.DOTALL)
    written: dict[str, Any] = yaml.safe_load(page)
    (directory / "token").write_text(TOKEN + "\n")
    (job,) = written["scrape_configs"]
    job |= {"scrape_interval": "1s", "scrape_timeout": "1s", "static_configs": [{"targets": [target]}]}
    job["authorization"]["credentials_file"] = str(directory / "token")
    return {**written, "global": {"evaluation_interval": "1s"}, "rule_files": [str(ALERTS)]}


@contextmanager
def site(resources: Resources) -> Iterator[str]:
    """Serve /learning-engine/metrics on a separate port, for requests with the token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["Authorization"] == f"Bearer {TOKEN}" and self.path == "/learning-engine/metrics"
            self.send_response(200 if known else 401)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.end_headers()
            self.wfile.write(metrics.render(resources, DURATIONS) if known else b"")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{LOOPBACK}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until every rule has been evaluated over a scrape."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if ask(address, 'ALERTS{alertname="LearningEngineVersionRejected"}'):
                return
        except OSError:
            pass
        time.sleep(0.2)
    pytest.fail(f"Prometheus has scraped nothing: {log.read_text()[-2000:]}")


def ask(address: str, query: str) -> list[Any]:
    with urlopen(f"{address}/api/v1/query?{urlencode({'query': query})}", timeout=10) as answer:
        body = json.load(answer)
    assert body["status"] == "success", body
    result: list[Any] = body["data"]["result"]
    return result


@pytest.mark.parametrize(("what", "query"), queries())
def test_every_query_has_a_result_unless_nothing_happened(prometheus: str, what: str, query: str) -> None:
    found = ask(prometheus, query.replace("$__range", "1h"))
    assert bool(found) == (what not in QUIET), found


def test_every_rule_is_loaded_and_healthy(prometheus: str) -> None:
    with urlopen(f"{prometheus}/api/v1/rules", timeout=10) as answer:
        loaded = [rule for group in json.load(answer)["data"]["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in loaded} == {rule["alert"] for rule in rules()}
    assert {rule["health"] for rule in loaded} == {"ok"}


def test_promtool_reports_no_problems(promtool: str, resources: Resources) -> None:
    found = subprocess.run(
        [promtool, "check", "metrics"], input=metrics.render(resources, DURATIONS), capture_output=True, timeout=60
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, b"")
    checked = subprocess.run([promtool, "check", "rules", "--lint-fatal", ALERTS], capture_output=True, timeout=60)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(("name", "interval", "series", "at", "fires"), CASES)
def test_an_alert_fires_when_it_should(
    promtool: str, tmp_path: Path, name: str, interval: str, series: dict[str, str], at: str, fires: bool
) -> None:
    firing = f'count(ALERTS{{alertname="LearningEngine{name}", alertstate="firing"}})'
    samples = [{"labels": "{}", "value": 1}] if fires else []
    test = {
        "interval": interval,
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": [{"expr": firing, "eval_time": at, "exp_samples": samples}],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_firing_and_a_silent_case() -> None:
    tested = {(f"LearningEngine{name}", fires) for name, _, _, _, fires in CASES}
    assert tested == set(itertools.product({rule["alert"] for rule in rules()}, (True, False)))
