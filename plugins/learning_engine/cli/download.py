"""Fetches an archive so that it is whole or not there."""

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from learning_engine.cli import codes
from learning_engine.cli.client import Client
from learning_engine.cli.codes import CliError
from learning_engine.cli.output import console

CHUNK = 1 << 18


@dataclass(frozen=True)
class Fetched:
    """An archive that lies at `file`, its digest the one of the version's record."""

    version: str
    file: str
    size: int
    sha256: str

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def fetch(client: Client, version: str, target: Path, force: bool) -> Fetched:
    """`target` is a file, or the directory in which it gets its own name. Raises CliError where the file is there
    already, or the bytes are not those of the version."""
    try:
        if target.is_dir():
            target /= f"{version}.tar.gz"
        _free(target, force)
        metadata = client.get(f"/adapters/{version}").body["metadata"]
        draft = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
        try:
            size, digest, promised = _receive(client, version, draft, metadata["size"])
            for who, expected in (("the server's header", promised), ("the version's record", metadata["sha256"])):
                if digest != expected:
                    raise CliError(
                        codes.FAILED,
                        f"Expected an archive of sha256 {expected} by {who}, found {digest} in {size:,} bytes: "
                        "nothing was kept. Try again; where it stays so, run the maintenance DAG, whose audit names "
                        "what is altered.",
                    )
            _free(target, force)
            draft.replace(target)
        finally:
            # A name that cannot be written cannot be removed either; what it was is told already.
            with suppress(OSError):
                draft.unlink(missing_ok=True)
    except OSError as error:
        raise CliError(codes.FAILED, f"Cannot write {target}: {error.strerror or error}") from error
    return Fetched(version, str(target), size, digest)


def _free(target: Path, force: bool) -> None:
    if target.is_dir():
        raise CliError(codes.USAGE, f"Expected the name of a file, found the directory {target}")
    if target.exists() and not force:
        raise CliError(codes.USAGE, f"{target} is there already: give another --output, or --force.")


def _receive(client: Client, version: str, draft: Path, size: int) -> tuple[int, str, str]:
    """Bytes, their digest, and the digest that the server's header promised."""
    digest, received = hashlib.sha256(), 0
    with (
        client.stream(f"/adapters/{version}/archive") as response,
        draft.open("xb") as file,
        _bar(version, size) as tell,
    ):
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            received += len(chunk)
            tell(received)
        file.flush()
        os.fsync(file.fileno())
        return received, digest.hexdigest(), response.headers.get("X-Checksum-Sha256", "none")


@contextmanager
def _bar(version: str, size: int) -> Iterator[Callable[[int], None]]:
    """Gives what tells how many bytes have come; silent without a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(version, total=size)
        yield lambda received: progress.update(task, completed=received)
