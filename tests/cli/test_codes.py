"""The exit codes that scripts rely on, and the messages that stand beside them."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator

import pytest
import requests
from starlette.responses import RedirectResponse, Response

from learning_engine.cli import app, codes, login
from tests.cli.conftest import Run
from tests.cli.server import Stage, problem

LIVE = "GET /learning-engine/live"


def test_they_stand_in_the_help(anonymous: Run):
    listed = re.findall(r"^ +(\d)  \S", anonymous("--help").out, re.MULTILINE)
    assert [int(code) for code in listed] == list(codes.MEANINGS)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, codes.REFUSED),
        (401, codes.NO_ACCESS),
        (403, codes.FORBIDDEN),
        (404, codes.NOT_FOUND),
        (409, codes.REFUSED),
        (422, codes.REFUSED),
        (429, codes.REFUSED),
        (500, codes.SERVER_ERROR),
        (503, codes.SERVER_ERROR),
    ],
)
def test_a_problem_becomes_a_code_and_its_words_a_message(cli: Run, stage: Stage, status: int, code: int):
    stage.instead[LIVE] = [problem(status, "Expected this, found that: do so.", "What went wrong")]
    shown = cli("live", "--json")
    assert (shown.code, shown.out) == (code, "")
    assert shown.err.startswith("Error: What went wrong: Expected this, found that: do so.")


def test_a_viewer_may_look_but_not_act(viewer: Run, stage: Stage):
    assert viewer("live").code == codes.DONE
    for command in (("train",), ("fisher", "v1.1"), ("rollback", "--yes"), ("adapters", "deploy", "v1.1", "--yes")):
        shown = viewer(*command)
        assert shown.code == codes.FORBIDDEN
        assert "Expected the right to act" in shown.err


def test_an_expired_login_says_how_to_get_a_new_one(cli: Run, stage: Stage):
    stage.expired.add("admin")
    shown = cli("live")
    assert shown.code == codes.NO_ACCESS
    assert f"Run `learning-engine login --url {stage.url} --user NAME`." in shown.err


def test_nobody_at_the_address(cli: Run):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    login.write(login.Login(url, "token"))
    shown = cli("live")
    assert (shown.code, shown.err) == (codes.NO_ACCESS, f"Error: Cannot reach {url}: [Errno 111] Connection refused.\n")


def test_a_server_that_does_not_answer(cli: Run, monkeypatch: pytest.MonkeyPatch):
    from learning_engine.cli.client import Client

    with socket.create_server(("127.0.0.1", 0)) as silent:
        login.write(login.Login(f"http://127.0.0.1:{silent.getsockname()[1]}", "token"))
        with pytest.raises(codes.CliError, match="gave no answer in time") as caught:
            Client.of(None).get("/live", seconds=0.05)
    assert (caught.value.code, caught.value.retryable) == (codes.NO_ACCESS, True)


def test_the_page_of_another_airflow_is_no_answer(cli: Run, stage: Stage):
    login.write(login.Login(f"{stage.url}/other", "token-of-admin"))
    for command in (("live",), ("metrics",), ("adapters", "list")):
        shown = cli(*command)
        assert (shown.code, shown.out) == (codes.NO_ACCESS, "")
        assert f"is {stage.url}/other the address of an Airflow that has Learning Engine?" in shown.err


def test_a_redirect_is_not_followed(cli: Run, stage: Stage):
    stage.instead[LIVE] = [RedirectResponse("https://elsewhere.example/live")]
    shown = cli("live")
    assert shown.code == codes.NO_ACCESS
    assert "redirect to https://elsewhere.example/live" in shown.err


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (Response("not found", 404), codes.NOT_FOUND, "404 Not Found: is http"),
        (Response('{"detail": "Not Found"}', 404), codes.NOT_FOUND, "404 Not Found: Not Found"),
        (Response('{"detail": [{"msg": "too long"}]}', 422), codes.REFUSED, "too long"),
        (Response("<html>proxy</html>", 504, media_type="text/html"), codes.SERVER_ERROR, "504 Gateway Timeout"),
        (Response("[]", 500), codes.SERVER_ERROR, "500 Internal Server Error"),
        (Response("not json", 200), codes.NO_ACCESS, "Expected JSON"),
        (Response("{}", 200), codes.SERVER_ERROR, "of different versions"),
    ],
)
def test_answers_that_are_none_of_the_contracts(cli: Run, stage: Stage, answer: Response, code: int, words: str):
    stage.instead[LIVE] = [answer]
    shown = cli("live")
    assert (shown.code, shown.out) == (code, "")
    assert words in shown.err


@pytest.mark.parametrize("command", [("no",), ("live", "--no"), ("adapters", "show"), ("train", "--epochs", "x")])
def test_what_is_not_understood(cli: Run, stage: Stage, command: tuple[str, ...]):
    shown = cli(*command)
    assert (shown.code, shown.out) == (codes.USAGE, "")
    assert "Error: " in shown.err
    assert stage.asked == []


@pytest.mark.parametrize("body", ["[]", "null", '"live"'])
def test_json_that_is_no_object_is_none_of_its_answers(cli: Run, stage: Stage, body: str):
    stage.instead[LIVE] = [Response(body, media_type="application/json")]
    shown = cli("live")
    assert shown.code == codes.NO_ACCESS
    assert "Expected JSON" in shown.err


@pytest.mark.parametrize("value", ["nan", "inf", "much"])
def test_what_is_no_number_is_not_sent(cli: Run, stage: Stage, value: str):
    for name in ("--ewc-lambda", "--epochs", "--learning-rate"):
        shown = cli("train", name, value)
        assert shown.code == codes.USAGE
        assert "expected a number" in shown.err
    assert stage.asked == []


@pytest.fixture
def breaking() -> Iterator[str]:
    """The address of a server that hears a request and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    heard, _ = server.accept()
                    heard.recv(1)
                    heard.close()

        threading.Thread(target=hang_up, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def slow(*_: object, **__: object) -> None:
    raise requests.ReadTimeout


@pytest.mark.parametrize("lost", ["broken off", "too late"])
def test_an_act_whose_answer_is_lost_may_have_been_done(
    cli: Run, breaking: str, monkeypatch: pytest.MonkeyPatch, lost: str
):
    monkeypatch.setenv(login.TOKEN, "token")
    if lost == "too late":
        monkeypatch.setattr(requests, "request", slow)
    act, look = cli("train", "--url", breaking), cli("live", "--url", breaking)
    assert (act.code, look.code) == (codes.NO_ACCESS, codes.NO_ACCESS)
    assert "whether it was started is not known" in " ".join(act.err.split())
    assert "not known" not in look.err


def test_an_act_that_reached_nobody_was_not_done(cli: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(login.TOKEN, "token")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shown = cli("train", "--url", f"http://127.0.0.1:{free.getsockname()[1]}")
    assert shown.code == codes.NO_ACCESS
    assert "Cannot reach" in shown.err
    assert "not known" not in shown.err


def test_a_program_that_ends_with_words_says_them(anonymous: Run, monkeypatch: pytest.MonkeyPatch):
    def ends(**_: object) -> None:
        raise SystemExit("no way")

    monkeypatch.setattr(app, "app", ends)
    shown = anonymous("live")
    assert (shown.code, shown.err.strip()) == (codes.FAILED, "no way")
