"""Run steps in child processes that kill themselves with SIGKILL at a given point.

    python -m tests.faults.worker

reads one order per line of JSON, executes it in a forked child, and prints a line of JSON, until end of input. Points,
numbered from 1, are: before each call that changes the bucket, before each call to a model server, after a request that
changes the server has been sent, before each change in the adapter directory, and the end. So there is a point between
any two changes.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import requests
from urllib3.connection import HTTPConnection

from learning_engine import config
from learning_engine.records.contracts import AdapterVersion, Candidate, Dataset, Deployment, RunInfo
from learning_engine.records.report import Report
from learning_engine.registry.store import Store, client_config
from learning_engine.steps import deploy as deploy_step
from learning_engine.steps import publish as publish_step
from learning_engine.steps.resources import Resources, ServingPlace

CHANGES = ("PutObject", "CopyObject", "UploadPart", "CompleteMultipartUpload", "DeleteObject")
ON_DISK = ("os.rename", "os.mkdir", "os.rmdir", "open")


class Points:
    """Records the points that were reached, and kills the process at point `die_at`."""

    def __init__(self, die_at: int | None) -> None:
        self.die_at, self.names = die_at, list[str]()

    def __call__(self, name: str) -> None:
        self.names.append(name)
        if len(self.names) == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)


def resources(order: dict[str, Any], point: Points) -> Resources:
    """Build from the order what the task would build from its connections."""
    settings = config.load()
    store, serving = order["store"], order["serving"]
    client = boto3.client("s3", config=client_config(settings.store), **store)
    for change in CHANGES:
        client.meta.events.register(
            f"before-call.s3.{change}", lambda params, **_: point(f"before {_request_line(params)}")
        )
    watch_server(point)
    watch_disk(serving["adapter_dir"], point)
    return Resources(
        settings=settings,
        open_store=lambda: Store(client, settings.store.bucket, settings.store.prefix),
        open_feedback=lambda: None,
        open_serving=lambda: ServingPlace(
            tuple(serving["replicas"]), Path(serving["adapter_dir"]), serving["adapter_dir"]
        ),
    )


def _request_line(params: dict[str, Any]) -> str:
    return f"{params['method']} {params['url_path'].split('/', 2)[-1]}"


def watch_server(point: Points) -> None:
    send, receive, pending = requests.request, HTTPConnection.getresponse, list[str]()

    def request(method: str, url: str, **more: Any) -> requests.Response:
        pending.append(f"{method} {url.split('/', 3)[-1]}")
        point(f"before {pending[-1]}")
        try:
            return send(method, url, **more)
        finally:
            pending.pop()

    def getresponse(connection: HTTPConnection) -> Any:
        if pending and pending[-1].endswith("_adapter"):
            point(f"sent {pending[-1]}")
        return receive(connection)

    requests.request, HTTPConnection.getresponse = request, getresponse  # type: ignore[assignment, method-assign]


def watch_disk(directory: str, point: Points) -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ON_DISK or not str(arguments[0]).startswith(directory):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        point(f"{event} {Path(str(arguments[0])).name.partition('~')[0]}")

    sys.addaudithook(hook)


def publish(r: Resources, dataset: Any, candidate: Any, report: Any, run: Any) -> Any:
    return publish_step.publish(
        r,
        Dataset.from_json(dataset),
        Candidate.from_json(candidate),
        Report.from_json(report),
        run=RunInfo.from_json(run),
    )


def deploy(r: Resources, version: Any, run: Any, **how: Any) -> Any:
    return deploy_step.deploy(
        r, AdapterVersion.from_json(version), run=RunInfo.from_json(run), decided_by="a test", **how
    )


def verify(r: Resources, deployment: Any) -> Any:
    return deploy_step.verify(r, Deployment.from_json(deployment))


STEPS: dict[str, Callable[..., Any]] = {"publish": publish, "deploy": deploy, "verify": verify}


def child(order: dict[str, Any], pipe: int) -> None:
    os.environ |= order["environment"]
    point = Points(order["die_at"])
    try:
        made = STEPS[order["step"]](resources(order, point), **order["arguments"])
        point("end")
        answer = {"made": made.to_json(), "points": point.names}
    except Exception as error:  # noqa: BLE001 - every error is reported to the test
        answer = {"error": f"{type(error).__name__}: {error}", "stack": traceback.format_exc()}
    with os.fdopen(pipe, "w") as out:
        out.write(json.dumps(answer))


def main() -> None:
    for line in sys.stdin:
        reading, writing = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(reading)
            child(json.loads(line), writing)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            text = answer.read()
        _, status = os.waitpid(pid, 0)
        print(text or json.dumps({"killed_by": os.WTERMSIG(status)}), flush=True)


if __name__ == "__main__":
    main()
