"""Every text that runs leave behind: in logs, Airflow's database, the bucket and on the workers' disk."""

import tarfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import psycopg
import pyarrow.parquet
from psycopg import sql

from tests.integration.conftest import Live

Texts = Iterable[tuple[str, str]]


def logs(live: Live) -> Texts:
    for place in (live.stack.logs, live.airflow.home / "logs"):
        for path in filter(Path.is_file, place.rglob("*")):
            # At its start the local store prints its key for the process that started it.
            if path.name != "object-store.log":
                yield str(path), path.read_text(errors="replace")


def tables(live: Live) -> Texts:
    """Every row of Airflow's database."""
    names = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"
    with psycopg.connect(live.database.uri("airflow")) as connection:
        for (name,) in connection.execute(names).fetchall():
            for row in connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(name))):
                cells = (cell.decode("latin-1") if isinstance(cell, bytes) else str(cell) for cell in row)
                yield f"a row of {name}", "\n".join(cells)


def content(name: str, data: bytes) -> Texts:
    """The content of an object as text, unpacked if it is an archive or Parquet."""
    if name.endswith(".parquet"):
        yield name, str(pyarrow.parquet.read_table(BytesIO(data)).to_pylist())
    elif name.endswith(".tar.gz"):
        with tarfile.open(fileobj=BytesIO(data)) as tar:
            for member in tar:
                file = tar.extractfile(member)
                yield f"{name}: {member.name}", file.read().decode("latin-1") if file else ""
    else:
        yield name, data.decode("latin-1")


def objects(live: Live) -> Texts:
    store = live.resources.store
    for stored in store.list():
        head = store.client.head_object(Bucket=store.bucket, Key=store.prefix + stored.key)
        yield f"the head of {stored.key}", f"{stored.key} {head['Metadata']} {head['ResponseMetadata']['HTTPHeaders']}"
        yield from content(stored.key, store.get_bytes(stored.key))


def disk(live: Live) -> Texts:
    for place in (live.resources.serving.adapter_dir, Path(live.resources.settings.store.spool)):
        for path in filter(Path.is_file, place.rglob("*")):
            yield str(path), path.read_bytes().decode("latin-1")


def find(texts: Texts, needles: dict[str, str]) -> set[tuple[str, str]]:
    """(where, what) for each text that contains a needle."""
    return {(where, what) for where, text in texts for what, needle in needles.items() if needle in text}
