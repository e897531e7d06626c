"""`login` and `logout`."""

import getpass
import os
import sys
from typing import Annotated

import typer

from learning_engine.cli import codes, login, options
from learning_engine.cli.client import Client
from learning_engine.cli.codes import CliError
from learning_engine.cli.output import say, write
from learning_engine.cli.wire import send

Stdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")]


def log_in(
    url: Annotated[
        str, typer.Option("--url", metavar="URL", envvar=login.URL, help="Airflow's address, as in a browser.")
    ],
    user: Annotated[str, typer.Option("--user", "-u", metavar="NAME", help="The name of an Airflow user.")],
    password_stdin: Stdin = False,
    as_json: options.Json = False,
) -> None:
    """Log in to Airflow, and stay logged in.

    The token that Airflow gives is kept in $XDG_CONFIG_HOME/learning-engine/login.json, by default below ~/.config,
    which only you can read. The password comes from a prompt, LEARNING_ENGINE_PASSWORD or --password-stdin.
    """
    if not (where := login.address(url)):
        raise typer.BadParameter("expected the address of Airflow, such as https://airflow.example", param_hint="--url")
    if not login.encrypted(where):
        say(f"{where} is not encrypted: whoever is on the way reads the password.", style="yellow")
    body = {"username": user, "password": _password(password_stdin)}
    with send("POST", where, "/auth/token", json=body, also=(401,)) as response:
        if response.status_code == 401:
            raise CliError(codes.NO_ACCESS, f"{where} does not know this name with this password.")
        try:
            found = login.Login(where, str(response.json()["access_token"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CliError(codes.NO_ACCESS, f"Expected a token of {where}, found none: is it an Airflow 3?") from error
    # Before anything is kept, the address proves to be one of Learning Engine, and the token to be good for it.
    me = Client(found).get("/me")
    login.write(found)
    if as_json:
        write(me.raw)
    may = [name for name, allowed in me.body["may"].items() if allowed]
    say(f"Logged in to {where} as {me.body['name']}; may look{''.join(f', {name}' for name in may)}.")


def log_out(as_json: options.Json = False) -> None:
    """Remove the file that login wrote. The token itself counts until it expires."""
    removed = login.remove()
    if as_json:
        write(b'{"removed": true}' if removed else b'{"removed": false}')
    say("Logged out." if removed else "Nobody was logged in.")


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if password := os.environ.get(login.PASSWORD):
        return password
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"expected a password: set {login.PASSWORD}, or pipe it in with --password-stdin")
    return getpass.getpass()
