"""docs/cli.md names exactly the existing commands, options and exit codes."""

import re
import shlex

from learning_engine.cli import exit_codes
from learning_engine.cli.app import COMMANDS, GROUPS
from tests.cli.conftest import Run
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "cli.md").read_text()


def documented_calls() -> list[list[str]]:
    """The arguments of each `learning-engine` call in the page's code blocks, without shell syntax."""
    lines = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    found = [re.split(r"[|)#]", line.partition("learning-engine ")[2])[0] for line in lines]
    return [shlex.split(words) for words in found if words]


def test_documented_commands_and_options_exist(anonymous: Run):
    assert len(documented_calls()) > 8
    for words in documented_calls():
        names = words[: 2 if words[0] in GROUPS else 1]
        done = anonymous(*names, "--help")
        assert done.code == exit_codes.DONE, words
        for option in (word for word in words if word.startswith("--")):
            assert re.search(rf"{option}\b", done.out), (words, option)


def test_every_command_is_documented():
    names = set(re.findall(r"`([a-z]+)", PAGE))
    assert {*COMMANDS, *GROUPS} <= names
    for group, (_, functions) in GROUPS.items():
        commands = [line.split(" | ")[0] for line in PAGE.splitlines() if line.startswith(f"| `{group} ")]
        assert set(functions) <= set(re.findall(r"[a-z]+", " ".join(commands)))


def test_every_option_of_train_is_documented(anonymous: Run):
    row = next(line for line in PAGE.splitlines() if line.startswith("| `train`"))
    options = set(re.findall(r"^ +(--[a-z-]+)", anonymous("train", "--help").out, re.MULTILINE))
    assert set(re.findall(r"--[a-z-]+", row)) == options - {"--wait", "--timeout", "--url", "--json"}


def test_every_exit_code_is_documented():
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)]
    assert listed == [*exit_codes.MEANINGS, exit_codes.INTERRUPTED]
