"""Downloads an archive atomically: the file either is complete or does not exist."""

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from learning_engine.cli import exit_codes
from learning_engine.cli.client import Client
from learning_engine.cli.exit_codes import CliError
from learning_engine.cli.output import console

CHUNK = 1 << 18


@dataclass(frozen=True)
class Fetched:
    """A downloaded archive whose digest matches the version's record."""

    version: str
    file: str
    size: int
    sha256: str

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def fetch(client: Client, version: str, target: Path, force: bool) -> Fetched:
    """Download the archive to `target`: a file, or a directory, in which the file is named after the version. Raises
    CliError if the file exists or the digest is wrong."""
    try:
        if target.is_dir():
            target /= f"{version}.tar.gz"
        _require_free(target, force)
        metadata = client.get(f"/adapters/{version}").body["metadata"]
        draft = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
        try:
            size, digest, announced = _receive(client, version, draft, metadata["size"])
            for source, expected in (("the server's header", announced), ("the version's record", metadata["sha256"])):
                if digest != expected:
                    raise CliError(
                        exit_codes.FAILED,
                        f"Expected an archive of sha256 {expected} from {source}, found {digest} in {size:,} bytes: "
                        "nothing was kept. Try again; if it persists, run the maintenance DAG, whose audit names "
                        "modified objects.",
                    )
            _require_free(target, force)
            draft.replace(target)
        finally:
            # A file that could not be created cannot be deleted either; that error is already reported.
            with suppress(OSError):
                draft.unlink(missing_ok=True)
    except OSError as error:
        raise CliError(exit_codes.FAILED, f"Cannot write {target}: {error.strerror or error}") from error
    return Fetched(version, str(target), size, digest)


def _require_free(target: Path, force: bool) -> None:
    if target.is_dir():
        raise CliError(exit_codes.USAGE, f"Expected a file name, found the directory {target}")
    if target.exists() and not force:
        raise CliError(exit_codes.USAGE, f"{target} already exists: give another --output, or use --force.")


def _receive(client: Client, version: str, draft: Path, size: int) -> tuple[int, str, str]:
    """The number of bytes, their digest, and the digest in the server's header."""
    digest, received = hashlib.sha256(), 0
    with (
        client.stream(f"/adapters/{version}/archive") as response,
        draft.open("xb") as file,
        _bar(version, size) as report,
    ):
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            received += len(chunk)
            report(received)
        file.flush()
        os.fsync(file.fileno())
        return received, digest.hexdigest(), response.headers.get("X-Checksum-Sha256", "none")


@contextmanager
def _bar(version: str, size: int) -> Iterator[Callable[[int], None]]:
    """Yields a callback for the number of received bytes, which draws a progress bar on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(version, total=size)
        yield lambda received: progress.update(task, completed=received)
