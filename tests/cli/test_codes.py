"""The exit codes that scripts rely on, and the messages that stand beside them."""

import re
import socket

import pytest
from starlette.responses import RedirectResponse, Response

from learning_engine.cli import codes, login
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
