"""`learning-engine …`: the REST API from a terminal. Of the rest of the package it knows the settings and nothing else.

    python -m learning_engine.cli --help

Start-up is a tenth of what people feel, so requests and rich are imported by the command that needs them.
"""

import sys
from collections.abc import Sequence
from io import TextIOWrapper

PROGRAM = "learning-engine"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, by default the one of the command line; `codes` says what the result means."""
    from learning_engine.cli.app import app
    from learning_engine.cli.codes import CliError
    from learning_engine.cli.output import say

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal without a sign for it shows a question mark; that is no reason to fail.
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
