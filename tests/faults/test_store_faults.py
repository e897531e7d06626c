"""The store fails in many ways during every step of the third week: the step reports it in bounded time, no partial
version is ever listed, and once the fault is over, the retry gives the same result as without a fault."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import pytest

from learning_engine.errors import StoreError
from learning_engine.steps import maintain as maintain_step
from tests.faults import proxy as faults
from tests.faults.proxy import Fault, Proxy
from tests.faults.weeks import MAKES, STEPS, TIMEOUTS, Weeks
from tests.object_stores import client_of

WRITES = "PUT|POST|DELETE"
# `deploy` reads only.
WRITERS = tuple(name for name in STEPS if name != "deploy")
# Enough steps for a fault that differs from another fault only in its message.
SOME = ("extract", "publish", "verify")
# The part of each step's result that is the same in every attempt.
SAME: dict[str, Callable[[Any], Any]] = {
    "extract": lambda made: made,
    "fisher": lambda made: made,
    "train": lambda made: made.sha256,
    "evaluate": lambda made: (made.accepted, made.loss, made.probes),
    "publish": lambda made: (made.version, made.run_key, made.sha256),
    "deploy": lambda made: (made.version, made.adapter_name, made.proven),
    "verify": lambda made: (made.version, made.adapter_name, made.proven),
}


@dataclass(frozen=True)
class Case:
    """A lasting fault; the error matches `says`."""

    name: str
    begin: Callable[[Proxy], AbstractContextManager[Any]]
    says: str
    steps: tuple[str, ...] = tuple(STEPS)
    client: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def lasting(fault: Fault, method: str = ".*") -> Callable[[Proxy], AbstractContextManager[Any]]:
    return lambda proxy: proxy.under(fault, method=method)


SHORT_TIMEOUT = {"read_timeout_seconds": 1}
CASES = [
    Case("down", Proxy.down, "EndpointConnectionError; check that the store of the connection can be reached"),
    Case("silent", lasting(faults.silent), "ReadTimeoutError; check that the store", client=SHORT_TIMEOUT),
    Case("takes no writes", lasting(faults.silent, WRITES), "ReadTimeoutError; check that", SOME, SHORT_TIMEOUT),
    Case("overloaded", lasting(faults.answers(503, "SlowDown")), r"\(HTTP 503\); .* try again"),
    Case("full", lasting(faults.answers(507, "XMinioStorageFull"), WRITES), "is full .* make room", WRITERS),
    Case("over its quota", lasting(faults.answers(403, "QuotaExceeded"), WRITES), "is full .* make room", SOME),
    Case("uploads are cut off", lasting(faults.cut_upload(50), WRITES), "; check that the store", WRITERS),
    Case("responses are cut off", lasting(faults.cut_answer(20), "GET"), "; check that the store"),
    Case("responses to writes are lost", lasting(faults.loses_answer, WRITES), "; check that the store", WRITERS),
]


def attempt(weeks: Weeks, step: str, client: Any) -> Any:
    """Run the step as a new worker."""
    return STEPS[step](weeks, weeks.loop(client).resources)


def numbers(weeks: Weeks) -> list[str]:
    """The published versions, all readable, listed without the fault."""
    return [version.version for version in weeks.loop().resources.registry.versions()]


def check_result(weeks: Weeks, step: str, made: Any) -> None:
    """Assert that the result equals the one without a fault, exists once, and that every version is complete."""
    assert SAME[step](made) == SAME[step](getattr(weeks, MAKES[step]))
    resources = weeks.loop().resources
    assert numbers(weeks) == (["v1.0", "v1.1", "v1.2"] if step in AFTER_PUBLISH else ["v1.0", "v1.1"])
    assert [entry.version for entry in resources.ledger.entries()] == ["v1.2"] * (step == "verify") + ["v1.1", "v1.0"]
    assert maintain_step.audit(resources)["findings"] == []
    names = weeks.server.replica.models()
    assert len(names) == len(set(names))


AFTER_PUBLISH = ("publish", "deploy", "verify")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_publish_fails_and_the_retry_succeeds(weeks: Weeks, proxy: Proxy, case: Case) -> None:
    check_failure_and_retry(weeks, proxy, case, ["publish"])


@pytest.mark.stack
@pytest.mark.parametrize("case", CASES, ids=str)
def test_any_step_fails_and_the_retry_succeeds(weeks: Weeks, proxy: Proxy, case: Case) -> None:
    check_failure_and_retry(weeks, proxy, case, [step for step in case.steps if step != "publish"])


def check_failure_and_retry(weeks: Weeks, proxy: Proxy, case: Case, steps: list[str]) -> None:
    client = client_of(weeks.s3, proxy.endpoint, **{**TIMEOUTS, **case.client})
    for step in steps:
        weeks.back_to(weeks.before[step])
        versions, began = numbers(weeks), time.monotonic()
        with case.begin(proxy):
            with pytest.raises(StoreError, match=case.says) as caught:
                attempt(weeks, step, client)
            assert caught.value.retryable, step
            assert "s3://faults/models/a/" in str(caught.value)
            assert time.monotonic() - began < 60, step
            # The lost response may be the one to the last write of `publish`.
            lost = ["v1.2"] if (step, case.name) == ("publish", "responses to writes are lost") else []
            assert numbers(weeks) in (versions, versions + lost)
        check_result(weeks, step, attempt(weeks, step, client_of(weeks.s3)))


MOMENTARY = {
    "overloaded": faults.answers(503, "SlowDown"),
    "the connection is cut": lambda exchange: exchange.drop(),
    "a response is lost": faults.loses_answer,
    "slow": faults.slow(0.3),
}


@pytest.mark.stack
@pytest.mark.parametrize("name", MOMENTARY)
def test_a_momentary_fault_is_retried_by_the_client(weeks: Weeks, proxy: Proxy, name: str) -> None:
    """The fault affects the step's first read and first write."""
    client = client_of(weeks.s3, proxy.endpoint, **TIMEOUTS)
    for step in STEPS:
        weeks.back_to(weeks.before[step])
        with (
            proxy.under(MOMENTARY[name], method="GET|HEAD", times=1) as read,
            proxy.under(MOMENTARY[name], method=WRITES, times=1) as write,
        ):
            made = attempt(weeks, step, client)
        assert (read.met, write.met) == (1, int(step in WRITERS)), step
        check_result(weeks, step, made)
