"""docs/cli.md names commands, options and exit codes that there are."""

import re
import shlex

from learning_engine.cli import codes
from learning_engine.cli.app import COMMANDS, GROUPS
from tests.cli.conftest import Run
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "cli.md").read_text()


def spoken() -> list[list[str]]:
    """The words after `learning-engine` in the page's blocks, up to where the shell takes over."""
    lines = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    found = [re.split(r"[|)#]", line.partition("learning-engine ")[2])[0] for line in lines]
    return [shlex.split(words) for words in found if words]


def test_its_commands_and_their_options_exist(anonymous: Run):
    assert len(spoken()) > 8
    for words in spoken():
        names = words[: 2 if words[0] in GROUPS else 1]
        done = anonymous(*names, "--help")
        assert done.code == codes.DONE, words
        for option in (word for word in words if word.startswith("--")):
            assert re.search(rf"{option}\b", done.out), (words, option)


def test_it_names_every_command():
    names = set(re.findall(r"`([a-z]+)", PAGE))
    assert {*COMMANDS, *GROUPS} <= names
    for group, (_, functions) in GROUPS.items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{group} "))
        for name in functions:
            assert re.search(rf"\b{name}\b", PAGE), (row, name)


def test_its_table_of_trains_options_is_whole(anonymous: Run):
    row = next(line for line in PAGE.splitlines() if line.startswith("| `train`"))
    options = set(re.findall(r"^ +(--[a-z-]+)", anonymous("train", "--help").out, re.MULTILINE))
    assert set(re.findall(r"--[a-z-]+", row)) == options - {"--wait", "--timeout", "--url", "--json"}


def test_it_lists_every_exit_code():
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)]
    assert listed == [*codes.MEANINGS, codes.INTERRUPTED]
