"""Redis as Celery's broker: on loopback, with a password, without persistence."""

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis

from demo.ports import LOOPBACK
from demo.processes import Program


@dataclass(frozen=True)
class Broker:
    """A Redis that can be started. `server` is its program, `directory` holds its files."""

    server: str
    directory: Path
    port: int
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    def program(self) -> Program:
        """The Redis process. The password is in a file, since every user can read a command line."""
        self.directory.mkdir()
        configuration = self.directory / "redis.conf"
        configuration.touch(mode=0o600)
        lines = {
            "bind": LOOPBACK,
            "port": self.port,
            "requirepass": self.password,
            "save": '""',
            "appendonly": "no",
            "dir": self.directory,
        }
        configuration.write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
        return Program(
            "redis",
            (self.server, str(configuration)),
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            cwd=self.directory,
            healthy=self.answers,
            port=self.port,
            patience=30,
            foundation=True,
        )

    def answers(self) -> bool:
        with Redis.from_url(self.url, socket_timeout=2) as client:
            return bool(client.ping())

    def unacknowledged(self) -> set[bytes]:
        """The messages that workers, including dead ones, have taken and not acknowledged."""
        with Redis.from_url(self.url, socket_timeout=2) as client:
            return set(client.hkeys("unacked"))
