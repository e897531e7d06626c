"""Fifty concurrent readers of the REST API: answers per second, p50 and p95 of each route, and failures.

    .venv/bin/python benchmarks/readers.py

Uses the stack of `make up` if it is running, else starts and stops it: Airflow with one api-server process, the S3
store and the model server, on the same machine as the readers. Each reader has its own connection and requests one
route after another, without a pause. Writes benchmarks/results/readers.json.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

import httpx
from common import ROOT, report

READERS = 50
ROUTES = ("live", "adapters", "adapters/v1.3", "deployments", "metrics", "storage", "training/status")
ADDRESS_FILE = ROOT / ".demo" / "address.json"


@contextmanager
def stack() -> Iterator[tuple[str, str]]:
    """The URL of a running stack, and a token for it."""
    started = not _running()
    if started:
        subprocess.run([sys.executable, "-m", "demo", "up"], cwd=ROOT, check=True)
    try:
        address = json.loads(ADDRESS_FILE.read_text())
        login = {"username": address["user"], "password": address["password"]}
        token = httpx.post(f"{address['url']}/auth/token", json=login, timeout=60).json()["access_token"]
        yield address["url"], token
    finally:
        if started:
            subprocess.run([sys.executable, "-m", "demo", "down"], cwd=ROOT, check=True)


def _running() -> bool:
    try:
        url = json.loads(ADDRESS_FILE.read_text())["url"]
        return httpx.get(f"{url}/api/v2/version", timeout=10).is_success
    except (OSError, httpx.HTTPError):
        return False


async def reader(number: int, url: str, token: str, count: int, answers: list[tuple[str, float, int]]) -> None:
    """Append `count` answers as (route, seconds, status). Each reader starts with a different route."""
    routes = islice(cycle(ROUTES), number % len(ROUTES), number % len(ROUTES) + count)
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=120) as client:
        for route in routes:
            began = time.perf_counter()
            try:
                answer = await client.get(f"{url}/learning-engine/{route}")
                status = answer.status_code
            except httpx.HTTPError:
                status = 0
            answers.append((route, time.perf_counter() - began, status))


async def read(url: str, token: str, readers: int, count: int) -> tuple[list[tuple[str, float, int]], float]:
    answers: list[tuple[str, float, int]] = []
    began = time.perf_counter()
    await asyncio.gather(*(reader(number, url, token, count, answers) for number in range(readers)))
    return answers, time.perf_counter() - began


def row(route: str, answers: list[tuple[str, float, int]]) -> dict[str, Any]:
    seconds = sorted(took for _, took, _ in answers)
    failed = sum(status != 200 for _, _, status in answers)
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    return {"route": route, "answers": len(answers), "failed": failed, "p50_s": cuts[9], "p95_s": cuts[18]}


def main() -> None:
    arguments = report.arguments(__doc__, gpu=False, tiny=True)
    readers, count = (4, len(ROUTES)) if arguments.tiny else (READERS, 6 * len(ROUTES) if arguments.full else 14)
    with stack() as (url, token):
        asyncio.run(read(url, token, 2, len(ROUTES)))  # a warm-up, which is not counted
        answers, seconds = asyncio.run(read(url, token, readers, count))
    rows = [row(route, [one for one in answers if one[0] == route]) for route in ROUTES]
    everything = row("all", answers) | {"per_second": len(answers) / seconds}
    report.publish(
        "readers",
        rows=[*rows, everything],
        targets=[report.Target(f"{readers} readers: answers that failed", float(everything["failed"]), "<=", 0.0)],
        packages=("apache-airflow", "fastapi", "uvicorn", "boto3"),
        arguments=arguments,
        columns={
            "route": "route",
            "answers": "answers",
            "failed": "failed",
            "p50_s": "p50, s",
            "p95_s": "p95, s",
            "per_second": "per second",
        },
        title=f"{readers} readers at once",
    )


if __name__ == "__main__":
    main()
