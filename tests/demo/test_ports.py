import socket
import subprocess
import sys
from pathlib import Path

import pytest

from demo.ports import LOOPBACK, NoRoom, free_port, require_disk

ROOT = Path(__file__).resolve().parents[2]


def test_a_port_in_use_gives_the_next_free_one():
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen()
        port = server.getsockname()[1]
        assert free_port(port) > port


def test_no_port_is_reserved_twice():
    taken: set[int] = set()
    first = free_port(taken=taken)
    assert free_port(first, taken=taken) != first
    assert len(taken) == 2


def test_a_port_reserved_by_another_process_is_not_returned():
    code = "import sys; from demo.ports import free_port; print(free_port(int(sys.argv[1])))"
    port = free_port()
    other = subprocess.run(
        [sys.executable, "-c", code, str(port)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(other.stdout) > port


def test_a_full_disk_raises_with_the_space_needed(tmp_path: Path):
    require_disk(tmp_path, gigabytes=0)
    with pytest.raises(NoRoom, match=r"Expected 1e.09 GB free"):
        require_disk(tmp_path, gigabytes=1e9)
