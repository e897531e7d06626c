"""Airflow reads its environment when it is first imported, so a home of the tests' own is set before any import."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run in several processes: one of them has the whole stack, first; the others have a file each."""
    stack = ROOT / "tests" / "integration"

    def on_the_stack(item: pytest.Item) -> bool:
        return stack in item.path.parents

    items.sort(key=lambda item: not on_the_stack(item))
    for item in items:
        group = stack if on_the_stack(item) else item.path
        item.add_marker(pytest.mark.xdist_group(group.relative_to(ROOT).as_posix().replace("/", ".")))
