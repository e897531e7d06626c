"""The demo: `python -m demo` runs the whole loop and ends; `up` leaves it running; `down` ends it.

`make demo`, `make up` and `make down` call it with the Python of .venv. With `--server max`, as `make demo SERVER=max`
does, the real MAX Serve takes the place of the local server.
"""

import argparse
import fcntl
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType

from demo import lessons, postgres, report, stack, story
from demo.airflow import USER, Airflow
from demo.console import Screen
from demo.ports import NoRoom
from demo.processes import Stack, StackError
from demo.rest import Rest
from include.setup import counterparts
from include.setup.packages import SetupError
from learning_engine.errors import LearningEngineError

COMMANDS = ("demo", "up", "down")
# What people start from the page and the command line, beside the weekly DAG; a paused DAG takes no run.
ACTS = ("learning_engine_deploy", "learning_engine_fisher")


class Busy(Exception):
    """Another demo works in the same directory."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__.split("\n")[0])
    parser.add_argument("command", nargs="?", choices=COMMANDS, default="demo")
    parser.add_argument("--server", choices=stack.SERVERS, default="local", help="what serves: default %(default)s")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    screen = Screen()
    try:
        with _alone():
            if options.command == "down":
                return down(screen)
            return {"demo": demo, "up": up}[options.command](screen, options.server)
    except KeyboardInterrupt:
        screen.say("Interrupted: everything that was started has been ended.", "yellow")
        return 130
    except (StackError, NoRoom, Busy, SetupError, LearningEngineError, OSError) as error:
        screen.say(str(error), "red")
        return 1


def demo(screen: Screen, server: str) -> int:
    """The whole loop; nothing is left running."""
    processes = Stack(stack.HOME)
    try:
        _play(processes, screen, server)
    finally:
        _end(processes, screen)
    return 0


def up(screen: Screen, server: str) -> int:
    """The same, left running; what fails on the way is ended."""
    processes = Stack(stack.HOME)
    try:
        place = _play(processes, screen, server)
        for dag in ACTS:
            Rest(place.airflow).unpause(dag)
    except BaseException:
        _end(processes, screen)
        raise
    _tell(place.airflow)
    screen.say(f"\nAirflow: {place.airflow.url}  user {USER}, password {place.airflow.password}", "bold")
    screen.say(f"The page: {place.airflow.url}/plugin/learning-engine")
    screen.say(f"The command line: .venv/bin/learning-engine login --url {place.airflow.url} --user {USER}")
    screen.say("Everything is left running; `make down` ends it.")
    return 0


def _tell(airflow: Airflow) -> None:
    """Where it is and how to log in, for programs; for the owner's eyes only."""
    path = stack.HOME / "address.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"url": airflow.url, "user": USER, "password": airflow.password}))


def down(screen: Screen) -> int:
    """End whatever runs; nothing to do is no error."""
    ended = _end(Stack(stack.HOME), screen)
    if not ended:
        screen.say("Nothing was running.")
    return 0


def _play(processes: Stack, screen: Screen, server: str) -> stack.Place:
    """Bring the stack up, tell the story, and print what came out of it."""
    if server == "max":
        counterparts.max_serve()
    began = time.monotonic()
    stack.clear(Stack(stack.HOME), screen)
    weeks = lessons.weeks(lessons.first_monday(datetime.now(UTC)))
    with screen:
        place = stack.bring_up(processes, screen, weeks, server)
        outcome = story.tell(processes, screen, place, weeks)
        body = story.finish(screen, outcome)
    report.show(screen, body)
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    screen.say(f"All of it took {minutes} min {seconds} s. Report: .demo/report.json, picture: .demo/report.png")
    return place


def _end(processes: Stack, screen: Screen) -> list[str]:
    """End everything; an impatient second Ctrl-C does not leave half of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ended = processes.stop()
    postgres.remove(stack.HOME / "postgres")
    if ended:
        screen.say(f"Ended: {', '.join(ended)}. Nothing of the demo is running.")
    return ended


@contextmanager
def _alone() -> Iterator[None]:
    """One demo at a time. The lock ends with this process, however that ends."""
    stack.CACHE.mkdir(parents=True, exist_ok=True)
    with (stack.CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy("Another demo is at work in this directory: wait for it, or end it with Ctrl-C.") from None
        yield


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"signal {number} at {frame}")


if __name__ == "__main__":
    sys.exit(main())
