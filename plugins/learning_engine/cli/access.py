"""The commands `login` and `logout`."""

import getpass
import os
import sys
from typing import Annotated

import typer

from learning_engine.cli import exit_codes, login, options
from learning_engine.cli.client import Client
from learning_engine.cli.exit_codes import CliError
from learning_engine.cli.output import say, write
from learning_engine.cli.transport import send

Stdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")]


def log_in(
    url: Annotated[
        str, typer.Option("--url", metavar="URL", envvar=login.URL, help="Airflow's address, as in a browser.")
    ],
    user: Annotated[str, typer.Option("--user", "-u", metavar="NAME", help="The name of an Airflow user.")],
    password_stdin: Stdin = False,
    as_json: options.Json = False,
) -> None:
    """Log in to Airflow and store the token.

    The token is stored in $XDG_CONFIG_HOME/learning-engine/login.json, by default below ~/.config, readable only by
    you. The password is read from a prompt, LEARNING_ENGINE_PASSWORD or --password-stdin.
    """
    if not (where := login.address(url)):
        raise typer.BadParameter("expected the address of Airflow, such as https://airflow.example", param_hint="--url")
    if not login.encrypted(where):
        say(f"{where} is not encrypted: others on the network can read the password.", style="yellow")
    body = {"username": user, "password": _password(password_stdin)}
    with send("POST", where, "/auth/token", json=body, also=(401,)) as response:
        if response.status_code == 401:
            raise CliError(exit_codes.NO_ACCESS, f"{where} rejected this user name and password.")
        try:
            found = login.Login(where, str(response.json()["access_token"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CliError(
                exit_codes.NO_ACCESS, f"Expected a token from {where}, found none: is it Airflow 3?"
            ) from error
    # Check that Learning Engine runs at this address and accepts the token before storing it.
    me = Client(found).get("/me")
    login.write(found)
    if as_json:
        write(me.raw)
    may = [name for name, allowed in me.body["may"].items() if allowed]
    say(f"Logged in to {where} as {me.body['name']}; may read{''.join(f', {name}' for name in may)}.")


def log_out(as_json: options.Json = False) -> None:
    """Delete the stored token. The token itself stays valid until it expires."""
    removed = login.remove()
    if as_json:
        write(b'{"removed": true}' if removed else b'{"removed": false}')
    say("Logged out." if removed else "You were not logged in.")


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if password := os.environ.get(login.PASSWORD):
        return password
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"expected a password: set {login.PASSWORD}, or pipe it in with --password-stdin")
    return getpass.getpass()
