"""The demo's store as a process: it needs no stdin, reports its kind, and leaves no process behind, however it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from hashlib import md5
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from demo import object_store
from demo.object_store import ROOT, ObjectStore
from tests.object_stores import client_of


def reachable(store: ObjectStore) -> bool:
    try:
        with urllib.request.urlopen(store.health, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait_until_gone(store: ObjectStore) -> None:
    deadline = time.monotonic() + 20
    while reachable(store):
        assert time.monotonic() < deadline, "the store outlived its process"
        time.sleep(0.05)


def command_lines(directory: Path) -> list[str]:
    """The command lines of all processes that contain `directory`."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if str(directory) in line]


def test_a_store_reports_its_kind(swift: ObjectStore, moto: ObjectStore) -> None:
    assert (swift.kind, moto.kind) == ("OpenStack Swift", "moto (mock)")
    assert reachable(swift)
    assert reachable(moto)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_swift_ends_with_its_process(swift: ObjectStore, tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "demo.object_store", str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    store = ObjectStore(**json.loads(process.stdout.readline()))
    assert reachable(store)
    assert len(command_lines(tmp_path)) == 5
    os.killpg(process.pid, number)
    assert process.wait(20) == (0 if number == signal.SIGTERM else -number)
    wait_until_gone(store)
    deadline = time.monotonic() + 20
    while left := command_lines(tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_a_real_store_refuses_bytes_that_do_not_match_their_digest(swift: ObjectStore) -> None:
    client, other = client_of(swift), b64encode(md5(b"other", usedforsecurity=False).digest()).decode()
    client.create_bucket(Bucket="digests")
    with pytest.raises(ClientError, match="BadDigest"):
        client.put_object(Bucket="digests", Key="a", Body=b"bytes", ContentMD5=other)
    assert "Contents" not in client.list_objects_v2(Bucket="digests")


def test_swift_keeps_its_objects_across_a_restart(swift: ObjectStore, tmp_path: Path) -> None:
    with object_store.start(tmp_path) as store:
        client_of(store).create_bucket(Bucket="kept")
        client_of(store).put_object(Bucket="kept", Key="a", Body=b"1")
    assert not reachable(store)
    with object_store.start(tmp_path) as again:
        assert client_of(again).get_object(Bucket="kept", Key="a")["Body"].read() == b"1"


def test_a_port_in_use_is_named(swift: ObjectStore, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RuntimeError, match="ended at its start"), object_store.start(tmp_path, port=port):
            pass
    assert f"Port {port} is in use" in (tmp_path / "store.log").read_text()


def test_a_store_can_use_a_fixed_port(moto: ObjectStore, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with object_store.start(tmp_path, port=port, moto=True) as store:
        assert store.endpoint == f"http://127.0.0.1:{port}"
        assert reachable(store)
    assert not reachable(store)


def test_the_reason_why_swift_cannot_run_is_given(tmp_path: Path) -> None:
    missing = tmp_path / "python"
    assert "is missing" in str(object_store.why_not_swift(tmp_path, missing))
    missing.symlink_to(sys.executable)
    assert "cannot import" in str(object_store.why_not_swift(tmp_path, missing))
