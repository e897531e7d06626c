"""The command line `learning-engine`, a client of the REST API. From the package it imports only settings and errors.

    python -m learning_engine.cli --help

To keep start-up fast, each command imports requests and rich only when it needs them.
"""

import sys
from collections.abc import Sequence
from io import TextIOWrapper

PROGRAM = "learning-engine"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, by default from sys.argv. Returns an exit code; see `exit_codes`."""
    from learning_engine.cli.app import app
    from learning_engine.cli.exit_codes import CliError
    from learning_engine.cli.output import say

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # Print a question mark for a character that the terminal cannot encode, instead of failing.
            stream.reconfigure(errors="replace")
    try:
        app(args=arguments, prog_name=PROGRAM)
    except CliError as error:
        say(f"Error: {error}", style="red")
        return error.code
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        say(str(ended.code), style="red")
        return 1
    return 0
