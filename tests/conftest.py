"""Set an Airflow home for the tests before any import, since Airflow reads its environment when first imported."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
HOME = Path(tempfile.mkdtemp(prefix="learning-engine-tests-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

for variable in [name for name in os.environ if name.startswith(("LEARNING_ENGINE", "AIRFLOW"))]:
    del os.environ[variable]
os.environ |= {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}

pytest_plugins = ["tests.balance", "tests.object_stores"]
# Examples per property test: `make test` runs 100, `make test-stack` 1000.
settings.register_profile("quick", max_examples=100, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile("quick")

# The only file of tests/integration that `make test` runs.
SHORT = "tests/integration/test_one_week.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of tests/integration as `stack`, except those in SHORT."""
    for item in items:
        if item.nodeid.startswith("tests/integration/") and not item.nodeid.startswith(SHORT):
            item.add_marker(pytest.mark.stack)
