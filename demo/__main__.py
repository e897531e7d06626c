"""The demo: `python -m demo` runs the whole loop and stops; `up` leaves it running; `down` stops it.

Called by `make demo`, `make up` and `make down` with the Python of .venv. With `--server max` (`make demo SERVER=max`)
it uses the real MAX Serve instead of the local server. With `--model smollm2` it teaches a real chat model.
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
from demo.worlds import TOY, WORLDS, World
from include.setup import counterparts
from include.setup.packages import SetupError
from learning_engine.errors import LearningEngineError

COMMANDS = ("demo", "up", "down")
# The DAGs, besides the weekly one, that people start from the page and the command line; a paused DAG starts no run.
MANUAL_DAGS = ("learning_engine_deploy", "learning_engine_fisher")


class Busy(Exception):
    """Another demo is running in the same directory."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__.split("\n")[0])
    parser.add_argument("command", nargs="?", choices=COMMANDS, default="demo")
    parser.add_argument(
        "--server", choices=stack.SERVERS, default="local", help="the model server; default: %(default)s"
    )
    parser.add_argument(
        "--model", choices=WORLDS, default="toy", help="the base model that is taught; default: %(default)s"
    )
    options = parser.parse_args()
    world = WORLDS[options.model]
    if options.server == "max" and world is not TOY:
        parser.error(f"--server max serves the toy only so far, found --model {world.model}: leave one of the two out")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    screen = Screen()
    try:
        with _single_instance():
            if options.command == "down":
                return down(screen)
            return {"demo": demo, "up": up}[options.command](screen, world, options.server)
    except KeyboardInterrupt:
        screen.say("Interrupted: everything that was started has been stopped.", "yellow")
        return 130
    except (StackError, NoRoom, Busy, SetupError, LearningEngineError, OSError) as error:
        screen.say(str(error), "red")
        return 1


def demo(screen: Screen, world: World, server: str) -> int:
    """Run the whole loop and leave nothing running."""
    processes = Stack(stack.HOME)
    try:
        _run(processes, screen, world, server)
    finally:
        _stop(processes, screen)
    return 0


def up(screen: Screen, world: World, server: str) -> int:
    """Run the whole loop and leave the stack running; stop it if something fails."""
    processes = Stack(stack.HOME)
    try:
        running = _run(processes, screen, world, server)
        for dag in MANUAL_DAGS:
            Rest(running.airflow).unpause(dag)
    except BaseException:
        _stop(processes, screen)
        raise
    _write_address(running.airflow)
    screen.say(f"\nAirflow: {running.airflow.url}  user {USER}, password {running.airflow.password}", "bold")
    screen.say(f"The page: {running.airflow.url}/plugin/learning-engine")
    screen.say(f"The command line: .venv/bin/learning-engine login --url {running.airflow.url} --user {USER}")
    screen.say("The stack keeps running; `make down` stops it.")
    return 0


def _write_address(airflow: Airflow) -> None:
    """Write URL and login for programs, readable only by the owner."""
    path = stack.HOME / "address.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"url": airflow.url, "user": USER, "password": airflow.password}))


def down(screen: Screen) -> int:
    """Stop whatever is running; nothing running is not an error."""
    if not _stop(Stack(stack.HOME), screen):
        screen.say("Nothing was running.")
    return 0


def _run(processes: Stack, screen: Screen, world: World, server: str) -> stack.RunningStack:
    """Start the stack, run the story, and print the results."""
    if server == "max":
        counterparts.max_serve()
    began = time.monotonic()
    stack.clear(Stack(stack.HOME), screen, gigabytes=world.gigabytes)
    weeks = world.weeks(lessons.first_monday(datetime.now(UTC)))
    with screen:
        running = stack.bring_up(processes, screen, world, weeks, server)
        outcome = story.run(processes, screen, running, weeks)
        body = story.finish(screen, outcome)
    report.show(screen, body)
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    screen.say(f"The demo took {minutes} min {seconds} s. Report: .demo/report.json, picture: .demo/report.png")
    return running


def _stop(processes: Stack, screen: Screen) -> list[str]:
    """Stop everything; ignore a second Ctrl-C, which would leave half of it running."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stopped = processes.stop()
    postgres.remove(stack.HOME / "postgres")
    if stopped:
        screen.say(f"Stopped: {', '.join(stopped)}. Nothing of the demo is running.")
    return stopped


@contextmanager
def _single_instance() -> Iterator[None]:
    """Allow one demo at a time. The lock is released when this process exits, however it exits."""
    stack.CACHE.mkdir(parents=True, exist_ok=True)
    with (stack.CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy("Another demo is running in this directory: wait for it, or stop it with Ctrl-C.") from None
        yield


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"signal {number} at {frame}")


if __name__ == "__main__":
    sys.exit(main())
