"""Where the server is and who asks: options win over the environment, that over the file that `login` writes.

The file holds a token, so nobody else may read it at any moment, whatever the umask is.
"""

import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from learning_engine.cli import codes
from learning_engine.cli.codes import CliError
from learning_engine.cli.output import say

URL, TOKEN, PASSWORD = "LEARNING_ENGINE_URL", "LEARNING_ENGINE_TOKEN", "LEARNING_ENGINE_PASSWORD"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Login:
    """`url` is Airflow's own address, as it stands in a browser."""

    url: str
    token: str


def path() -> Path:
    """Raises CliError where there is no home directory."""
    base = Path(os.environ.get("XDG_CONFIG_HOME") or "")
    try:
        return (base if base.is_absolute() else Path.home() / ".config") / "learning-engine" / "login.json"
    except RuntimeError as error:
        raise CliError(
            codes.NO_ACCESS,
            f"Expected a home directory for the login, found none: set XDG_CONFIG_HOME, or {URL} and {TOKEN}.",
        ) from error


def find(url: str | None) -> Login:
    """Who asks where. The file's token goes to the file's address and to no other. Raises CliError without a login."""
    where, token = address(url or os.environ.get(URL) or ""), _given()
    if where and token:
        return Login(where, token)
    known = read()
    where = where or (address(known.url) if known else "")
    if not where:
        raise CliError(codes.NO_ACCESS, "Nobody is logged in: run `learning-engine login --url URL --user NAME`.")
    if not token and known and known.url == where:
        token = known.token
    if not token:
        raise CliError(
            codes.NO_ACCESS, f"Nobody is logged in to {where}: run `learning-engine login --url {where} --user NAME`."
        )
    return Login(where, token)


def _given() -> str:
    """The environment's token. What no header can carry is refused, and not repeated."""
    token = os.environ.get(TOKEN, "").strip()  # a secret's file ends in a line break
    if not (token.isascii() and token.isprintable()):
        raise CliError(codes.NO_ACCESS, f"Expected a token in {TOKEN}, found letters that no token has: set it anew.")
    return token


def address(url: str) -> str:
    """`url` without a slash at its end. Raises CliError for what is no address, or holds a password."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        plain = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        plain = plain and parts.port != 0
    except ValueError:
        plain = False
    if not plain:
        raise CliError(codes.USAGE, f"Expected the address of Airflow, such as https://airflow.example, found {url!r}")
    if parts.username or parts.password:
        raise CliError(codes.USAGE, "Expected an address without a name and a password in it: give them to `login`")
    return url.rstrip("/")


def encrypted(url: str) -> bool:
    """Whether a password may travel there: by https, or within this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in LOOPBACK


def read() -> Login | None:
    """None without a file. Raises CliError for a file that is none of `login`'s."""
    try:
        content = path().read_bytes()
        mode = path().stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CliError(codes.NO_ACCESS, f"Cannot read the login in {path()}: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        say(f"Others may read your login: run `chmod 600 {path()}`.", style="yellow")
    try:
        found = json.loads(content)
        return Login(str(found["url"]), str(found["token"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CliError(
            codes.NO_ACCESS, f"No login can be read in {path()}: run `learning-engine login` again."
        ) from error


def write(login: Login) -> None:
    """Replace the file in one step; readable by its owner alone from its first byte on."""
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
        raise CliError(codes.FAILED, f"Cannot write the login to {target}: {error.strerror}") from error


def remove() -> bool:
    """Whether there was one."""
    try:
        path().unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CliError(codes.FAILED, f"Cannot remove the login in {path()}: {error.strerror}") from error
    return True
