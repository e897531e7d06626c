"""Server address and token: from options, else the environment, else the file that `login` writes.

The file holds a token, so only its owner may ever read it, regardless of the umask.
"""

import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from learning_engine.cli import exit_codes
from learning_engine.cli.exit_codes import CliError
from learning_engine.cli.output import say

URL, TOKEN, PASSWORD = "LEARNING_ENGINE_URL", "LEARNING_ENGINE_TOKEN", "LEARNING_ENGINE_PASSWORD"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Login:
    """`url` is Airflow's address, as in a browser."""

    url: str
    token: str


def path() -> Path:
    """The path of the login file. Raises CliError without a home directory."""
    base = Path(os.environ.get("XDG_CONFIG_HOME") or "")
    try:
        return (base if base.is_absolute() else Path.home() / ".config") / "learning-engine" / "login.json"
    except RuntimeError as error:
        raise CliError(
            exit_codes.NO_ACCESS,
            f"Expected a home directory for the login, found none: set XDG_CONFIG_HOME, or {URL} and {TOKEN}.",
        ) from error


def find(url: str | None) -> Login:
    """The effective login. The stored token is only used with the stored address. Raises CliError without a login."""
    where, token = address(url or os.environ.get(URL) or ""), _token_from_environment()
    if where and token:
        return Login(where, token)
    known = read()
    where = where or (address(known.url) if known else "")
    if not where:
        raise CliError(exit_codes.NO_ACCESS, "Not logged in: run `learning-engine login --url URL --user NAME`.")
    if not token and known and known.url == where:
        token = known.token
    if not token:
        raise CliError(
            exit_codes.NO_ACCESS,
            f"Not logged in to {where}: run `learning-engine login --url {where} --user NAME`.",
        )
    return Login(where, token)


def _token_from_environment() -> str:
    """The token from the environment. An invalid one is rejected without printing it."""
    token = os.environ.get(TOKEN, "").strip()  # secret files often end in a line break
    if not (token.isascii() and token.isprintable()):
        raise CliError(exit_codes.NO_ACCESS, f"Expected a token in {TOKEN}, found invalid characters: set it again.")
    return token


def address(url: str) -> str:
    """`url` without a trailing slash. Raises CliError if it is not an address or contains a password."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        valid = valid and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise CliError(
            exit_codes.USAGE, f"Expected the address of Airflow, such as https://airflow.example, found {url!r}"
        )
    if parts.username or parts.password:
        raise CliError(exit_codes.USAGE, "Expected an address without user name and password: pass them to `login`")
    return url.rstrip("/")


def encrypted(url: str) -> bool:
    """Whether passwords sent to `url` are protected: https, or a loopback address."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in LOOPBACK


def read() -> Login | None:
    """The stored login, None without a file. Raises CliError if the file is invalid."""
    try:
        content = path().read_bytes()
        mode = path().stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CliError(exit_codes.NO_ACCESS, f"Cannot read the login in {path()}: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        say(f"Other users can read your login: run `chmod 600 {path()}`.", style="yellow")
    try:
        found = json.loads(content)
        return Login(str(found["url"]), str(found["token"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CliError(
            exit_codes.NO_ACCESS,
            f"Expected a login in {path()}, found an invalid file: run `learning-engine login` again.",
        ) from error


def write(login: Login) -> None:
    """Replace the file atomically; it is never readable by others."""
    target = path()
    draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        target.parent.parent.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        target.parent.chmod(0o700)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"url": login.url, "token": login.token}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise CliError(exit_codes.FAILED, f"Cannot write the login to {target}: {error.strerror}") from error


def remove() -> bool:
    """Delete the file. Returns whether it existed."""
    try:
        path().unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CliError(exit_codes.FAILED, f"Cannot remove the login in {path()}: {error.strerror}") from error
    return True
