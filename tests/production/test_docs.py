"""The files, settings, targets and commands on the pages exist."""

import itertools
import json
import re
import shlex

import pytest

from include.reference import configuration
from learning_engine import config
from tests.production.conftest import ROOT, example

PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
HANDWRITTEN = [name for name in PAGES if name not in {"configuration.md", "design.md"}]
SETTINGS = {".".join(setting.path) for setting in configuration.settings()}


def text(page: str) -> str:
    return (ROOT / "docs" / page).read_text()


def anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_link_targets_exist(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if not target.startswith("http"):
            file, _, anchor = target.partition("#")
            assert (ROOT / "docs" / (file or page)).exists(), target
            assert not anchor or anchor in anchors(file or page), target


@pytest.mark.parametrize("page", HANDWRITTEN)
def test_settings_variables_and_targets_exist(page: str) -> None:
    sections = "|".join(sorted({setting.split(".")[0] for setting in SETTINGS} - {"deploy"}))
    for key in re.findall(rf"`((?:{sections})\.[a-z_.]+)[:`]", text(page)):
        assert key in SETTINGS or any(setting.startswith(f"{key}.") for setting in SETTINGS), key
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make ([a-z-]+)(?=[`\s])", text(page), re.MULTILINE):
        assert f"\n{target}:" in makefile, target
    for name in re.findall(r"`(SERVE_GPU|TRAIN_GPU|[A-Z]+_PASSWORD)`", text(page)):
        assert name in example()


def test_the_tests_on_the_reliability_page_exist() -> None:
    named = re.findall(r"`([a-z_/]+\.py)::(test_[a-z0-9_]+)`", text("reliability.md"))
    assert len(named) > 50
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{file}::{name}"


@pytest.mark.parametrize("page", HANDWRITTEN)
def test_airflow_variables_are_options_of_airflow(page: str) -> None:
    from airflow.configuration import retrieve_configuration_description

    described = retrieve_configuration_description(include_providers=True)
    for section, option in re.findall(r"AIRFLOW__([A-Z_]+?)__([A-Z_]+)", text(page)):
        assert option.lower() in described[section.lower()]["options"], option


def commands(page: str, program: str) -> list[list[str]]:
    """The shell commands on the page that start with `program`, as words."""
    joined = text(page).replace("\\\n", " ")
    words = [shlex.split(block, comments=True) for block in re.findall(r"```bash\n(.*?)```", joined, re.DOTALL)]
    return [command for block in words for command in _split(block, program)]


def _split(words: list[str], program: str) -> list[list[str]]:
    starts = [index for index, word in enumerate(words) if word == program]
    return [words[start:end] for start, end in itertools.pairwise([*starts, len(words)])]


def test_airflow_commands_parse() -> None:
    from airflow.cli.cli_parser import get_parser

    found = [command for page in HANDWRITTEN for command in commands(page, "airflow")]
    assert len(found) > 5
    for command in found:
        assert get_parser().parse_args(command[1:]), command


def test_run_configurations_use_params_of_their_dag() -> None:
    from airflow.dag_processing.dagbag import DagBag

    dags = DagBag(ROOT / "dags", load_op_links=False).dags
    triggers = [command for page in HANDWRITTEN for command in commands(page, "airflow") if "--conf" in command]
    assert triggers
    for command in triggers:
        conf = json.loads(command[command.index("--conf") + 1])
        assert set(conf) <= set(dags[command[3]].params), command


def test_airflow_can_parse_the_connections() -> None:
    from airflow.sdk import Connection

    found = re.findall(r"export (\w+)_CONNECTION='([^']+)'", text("installation.md"))
    assert {name.lower() for name, _ in found} == set(type(config.load().connections).model_fields)
    for name, value in found:
        connection = Connection.from_json(value, conn_id=name)
        assert connection.conn_type
        if name == "SERVING":
            assert set(connection.extra_dejson) == {"replicas", "adapter_dir", "server_adapter_dir"}
