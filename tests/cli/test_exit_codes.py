"""The exit codes that scripts rely on, and their messages."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator

import pytest
import requests
from starlette.responses import RedirectResponse, Response

from learning_engine.cli import app, exit_codes, login
from tests.cli.conftest import Run
from tests.cli.stub import Stub, problem

LIVE = "GET /learning-engine/live"


def test_help_lists_the_exit_codes(anonymous: Run):
    listed = re.findall(r"^ +(\d)  \S", anonymous("--help").out, re.MULTILINE)
    assert [int(code) for code in listed] == list(exit_codes.MEANINGS)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, exit_codes.REFUSED),
        (401, exit_codes.NO_ACCESS),
        (403, exit_codes.FORBIDDEN),
        (404, exit_codes.NOT_FOUND),
        (409, exit_codes.REFUSED),
        (422, exit_codes.REFUSED),
        (429, exit_codes.REFUSED),
        (500, exit_codes.SERVER_ERROR),
        (503, exit_codes.SERVER_ERROR),
    ],
)
def test_a_problem_becomes_an_exit_code_and_a_message(cli: Run, stub: Stub, status: int, code: int):
    stub.instead[LIVE] = [problem(status, "Expected this, found that: do so.", "What went wrong")]
    shown = cli("live", "--json")
    assert (shown.code, shown.out) == (code, "")
    assert shown.err.startswith("Error: What went wrong: Expected this, found that: do so.")


def test_a_viewer_may_read_but_not_act(viewer: Run, stub: Stub):
    assert viewer("live").code == exit_codes.DONE
    for command in (("train",), ("fisher", "v1.1"), ("rollback", "--yes"), ("adapters", "deploy", "v1.1", "--yes")):
        shown = viewer(*command)
        assert shown.code == exit_codes.FORBIDDEN
        assert "Expected the right to act" in shown.err


def test_an_expired_login_names_the_login_command(cli: Run, stub: Stub):
    stub.expired.add("admin")
    shown = cli("live")
    assert shown.code == exit_codes.NO_ACCESS
    assert f"Run `learning-engine login --url {stub.url} --user NAME`." in shown.err


def test_a_refused_connection_names_the_address(cli: Run):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    login.write(login.Login(url, "token"))
    shown = cli("live")
    assert (shown.code, shown.err) == (
        exit_codes.NO_ACCESS,
        f"Error: Cannot reach {url}: [Errno 111] Connection refused.\n",
    )


def test_a_server_that_does_not_answer_is_a_retryable_error(cli: Run, monkeypatch: pytest.MonkeyPatch):
    from learning_engine.cli.client import Client

    with socket.create_server(("127.0.0.1", 0)) as silent:
        login.write(login.Login(f"http://127.0.0.1:{silent.getsockname()[1]}", "token"))
        with pytest.raises(exit_codes.CliError, match="did not respond in time") as caught:
            Client.of(None).get("/live", seconds=0.05)
    assert (caught.value.code, caught.value.retryable) == (exit_codes.NO_ACCESS, True)


def test_an_airflow_without_learning_engine_is_reported(cli: Run, stub: Stub):
    login.write(login.Login(f"{stub.url}/other", "token-of-admin"))
    for command in (("live",), ("metrics",), ("adapters", "list")):
        shown = cli(*command)
        assert (shown.code, shown.out) == (exit_codes.NO_ACCESS, "")
        assert f"is {stub.url}/other the address of an Airflow with Learning Engine?" in shown.err


def test_a_redirect_is_not_followed(cli: Run, stub: Stub):
    stub.instead[LIVE] = [RedirectResponse("https://elsewhere.example/live")]
    shown = cli("live")
    assert shown.code == exit_codes.NO_ACCESS
    assert "redirect to https://elsewhere.example/live" in shown.err


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (Response("not found", 404), exit_codes.NOT_FOUND, "404 Not Found: is http"),
        (Response('{"detail": "Not Found"}', 404), exit_codes.NOT_FOUND, "404 Not Found: Not Found"),
        (Response('{"detail": [{"msg": "too long"}]}', 422), exit_codes.REFUSED, "too long"),
        (Response("<html>proxy</html>", 504, media_type="text/html"), exit_codes.SERVER_ERROR, "504 Gateway Timeout"),
        (Response("[]", 500), exit_codes.SERVER_ERROR, "500 Internal Server Error"),
        (Response("not json", 200), exit_codes.NO_ACCESS, "Expected JSON"),
        (Response("{}", 200), exit_codes.SERVER_ERROR, "have different versions"),
    ],
)
def test_unexpected_responses_are_explained(cli: Run, stub: Stub, answer: Response, code: int, words: str):
    stub.instead[LIVE] = [answer]
    shown = cli("live")
    assert (shown.code, shown.out) == (code, "")
    assert words in shown.err


@pytest.mark.parametrize("command", [("no",), ("live", "--no"), ("adapters", "show"), ("train", "--epochs", "x")])
def test_usage_errors_are_found_before_any_request(cli: Run, stub: Stub, command: tuple[str, ...]):
    shown = cli(*command)
    assert (shown.code, shown.out) == (exit_codes.USAGE, "")
    assert "Error: " in shown.err
    assert stub.asked == []


@pytest.mark.parametrize("body", ["[]", "null", '"live"'])
def test_json_that_is_not_an_object_is_rejected(cli: Run, stub: Stub, body: str):
    stub.instead[LIVE] = [Response(body, media_type="application/json")]
    shown = cli("live")
    assert shown.code == exit_codes.NO_ACCESS
    assert "Expected JSON" in shown.err


@pytest.mark.parametrize("value", ["nan", "inf", "much"])
def test_invalid_numbers_are_not_sent(cli: Run, stub: Stub, value: str):
    for name in ("--ewc-lambda", "--epochs", "--learning-rate"):
        shown = cli("train", name, value)
        assert shown.code == exit_codes.USAGE
        assert "expected a number" in shown.err
    assert stub.asked == []


@pytest.fixture
def closing_server() -> Iterator[str]:
    """The address of a server that closes each connection after a request."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.recv(1)
                    connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def slow(*_: object, **__: object) -> None:
    raise requests.ReadTimeout


@pytest.mark.parametrize("lost", ["closed", "timed out"])
def test_an_action_with_a_lost_response_may_have_started(
    cli: Run, closing_server: str, monkeypatch: pytest.MonkeyPatch, lost: str
):
    monkeypatch.setenv(login.TOKEN, "token")
    if lost == "timed out":
        monkeypatch.setattr(requests, "request", slow)
    action, query = cli("train", "--url", closing_server), cli("live", "--url", closing_server)
    assert (action.code, query.code) == (exit_codes.NO_ACCESS, exit_codes.NO_ACCESS)
    assert "the action may have started" in " ".join(action.err.split())
    assert "may have started" not in query.err


def test_an_action_that_was_not_sent_did_not_start(cli: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(login.TOKEN, "token")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shown = cli("train", "--url", f"http://127.0.0.1:{free.getsockname()[1]}")
    assert shown.code == exit_codes.NO_ACCESS
    assert "Cannot reach" in shown.err
    assert "may have started" not in shown.err


def test_a_system_exit_message_is_printed(anonymous: Run, monkeypatch: pytest.MonkeyPatch):
    def ends(**_: object) -> None:
        raise SystemExit("no way")

    monkeypatch.setattr(app, "app", ends)
    shown = anonymous("live")
    assert (shown.code, shown.err.strip()) == (exit_codes.FAILED, "no way")
