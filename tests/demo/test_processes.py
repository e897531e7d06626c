"""The supervisor: a program serves or fails with a reason, and a stopped program has really ended."""

import os
import socket
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from demo.ports import free_port
from demo.process_tree import MARK, marked
from demo.processes import Program, Stack, StackError

FOREVER = "import time; time.sleep(600)"
# Ignores SIGTERM, and leaves a child in a session of its own, as a badly behaved server does.
STUBBORN = (
    "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "subprocess.Popen([sys.executable, '-c', 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "time.sleep(600)'], start_new_session=True); print('ready', flush=True); time.sleep(600)"
)


def program(name: str, code: str, **options: object) -> Program:
    return Program(name, (sys.executable, "-c", code), env={"PATH": os.environ["PATH"]}, **options)


@pytest.fixture
def stack(tmp_path: Path):
    stack = Stack(tmp_path / "stack")
    yield stack
    Stack(tmp_path / "stack").stop()


def test_a_program_is_waited_for_until_it_serves(stack: Stack, tmp_path: Path):
    ready = tmp_path / "ready"
    code = f"import pathlib, time; time.sleep(0.3); pathlib.Path({str(ready)!r}).touch(); time.sleep(600)"
    running = stack.up(program("slow", code, healthy=ready.exists))
    assert ready.exists()
    assert os.getsid(running.pid) == running.pid
    stack.check()


def test_a_program_that_ends_at_its_start_fails_at_once_with_its_last_output(stack: Stack):
    began = time.monotonic()
    with pytest.raises(StackError, match=r"(?s)broken ended at its start.*no such database"):
        stack.up(program("broken", "raise SystemExit('no such database')", healthy=lambda: False))
    assert time.monotonic() - began < 30  # far below its patience of 90


def test_a_program_that_never_serves_times_out(stack: Stack):
    with pytest.raises(StackError, match=r"deaf does not serve after 0.3 s"):
        stack.up(program("deaf", FOREVER, healthy=lambda: False, patience=0.3))


def test_another_process_on_the_port_is_not_mistaken_for_the_program(stack: Stack):
    listen = "import socket, time; s = socket.create_server(('127.0.0.1', {})); time.sleep(600)"
    port = free_port()
    serves = {"healthy": lambda: socket.create_connection(("127.0.0.1", port)).close() is None, "port": port}
    stack.up(program("other", listen.format(port), **serves))
    with pytest.raises(StackError, match=r"(?s)late ended at its start.*Address already in use"):
        stack.up(program("late", listen.format(port), **serves))


def test_a_server_that_ends_later_is_noticed(stack: Stack):
    running = stack.up(program("fragile", FOREVER))
    psutil.Process(running.pid).kill()
    psutil.wait_procs([psutil.Process(running.pid)], timeout=5)
    with pytest.raises(StackError, match="fragile has ended"):
        stack.check()


def test_a_command_returns_its_output_or_raises_with_its_reason(stack: Stack):
    assert stack.run(program("speak", "print('hello')")) == "hello\n"
    with pytest.raises(StackError, match=r"(?s)fail failed with exit code 3.*why"):
        stack.run(program("fail", "print('why'); raise SystemExit(3)"))
    with pytest.raises(StackError, match=r"hang took over 0.2 s"):
        stack.run(program("hang", FOREVER, patience=0.2))
    assert stack.running() == []


def test_nothing_survives_a_stop_and_stopping_twice_is_harmless(stack: Stack):
    log = stack.logs / "stubborn.log"
    stack.up(program("stubborn", STUBBORN, healthy=lambda: "ready" in log.read_text(), grace=0.2))
    stack.up(program("polite", FOREVER))
    # During exec a process has no readable environment for a moment.
    deadline = time.monotonic() + 10
    while len(marked(stack.directory)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert stack.stop() == ["stubborn", "polite"]
    assert marked(stack.directory) == {}
    assert stack.stop() == []


def test_another_process_stops_what_a_crashed_one_left(stack: Stack):
    running = stack.up(program("orphan", FOREVER))
    assert Stack(stack.directory).stop() == ["orphan"]
    assert running.leader() is None


def test_a_program_missing_in_the_state_file_is_found_by_its_mark(stack: Stack):
    running = stack.up(program("unwritten", FOREVER))
    stack.state.write_text('[{"name": "half a')
    Stack(stack.directory).stop()
    assert running.leader() is None


def test_another_process_with_a_reused_id_is_left_alone(stack: Stack):
    running = stack.up(program("other", FOREVER))
    entry = stack.state.read_text().replace(str(running.created), str(running.created - 1000))
    stack.state.write_text(entry)
    later = Stack(stack.directory)
    assert later.running()[0].leader() is None
    assert later.running()[0].tree() == []
    # It does not have the mark of another stack, either.
    assert psutil.Process(running.pid).environ()[MARK] == str(stack.directory)
    assert marked(stack.directory.parent) == {}


def test_foundations_end_after_everything_that_depends_on_them(stack: Stack, tmp_path: Path):
    order = tmp_path / "order"
    order.touch()

    def code(name: str) -> str:
        return (
            "import signal, sys, time\n"
            "def end(*_):\n"
            f"    time.sleep({0.3 if name == 'app' else 0})\n"
            f"    open({str(order)!r}, 'a').write('{name} ')\n"
            "    sys.exit()\n"
            f"signal.signal(signal.SIGTERM, end)\nopen({str(order)!r} + '.{name}', 'w')\ntime.sleep(600)"
        )

    for name, foundation in (("ground", True), ("app", False)):
        ready = Path(f"{order}.{name}")
        stack.up(program(name, code(name), healthy=ready.exists, foundation=foundation))
    stack.stop()
    assert order.read_text() == "app ground "


def test_nothing_starts_after_a_stop_has_begun(stack: Stack):
    stack.stop()
    with pytest.raises(StackError, match="late was not started"):
        stack.start(program("late", FOREVER))


def test_threads_may_start_programs_at_once(stack: Stack):
    threads = [threading.Thread(target=stack.start, args=(program(f"p{n}", FOREVER),)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(running.name for running in stack.running()) == [f"p{n}" for n in range(6)]
