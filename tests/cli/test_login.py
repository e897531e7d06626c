"""Who asks where: login, logout, the file between them, and what wins over it."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from learning_engine.cli import codes, login
from tests.cli.conftest import Run
from tests.cli.server import PASSWORDS, Stage


@pytest.fixture
def homeless(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr(Path, "home", none)


@pytest.fixture
def umask() -> Iterator[None]:
    """Whatever is made may be read and written by everyone, unless the program sees to it."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def log_in(run: Run, stage: Stage, *more: str, user: str = "admin", password: str | None = None):
    secret = PASSWORDS[user] if password is None else password
    return run("login", "--url", stage.url, "--user", user, "--password-stdin", *more, stdin=f"{secret}\n")


def test_login_keeps_address_and_token_where_only_the_owner_reads_them(
    anonymous: Run, stage: Stage, home: Path, umask: None
):
    done = log_in(anonymous, stage)
    assert (done.code, done.out) == (codes.DONE, "")
    assert done.err == f"Logged in to {stage.url} as admin; may look, train, fisher, deploy.\n"
    file = home / "learning-engine" / "login.json"
    assert json.loads(file.read_text()) == {"url": stage.url, "token": "token-of-admin"}
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    assert list(file.parent.iterdir()) == [file]


def test_the_file_is_never_readable_by_others_not_even_while_it_is_written(
    home: Path, umask: None, monkeypatch: pytest.MonkeyPatch
):
    seen: list[int] = []
    dump = json.dump

    def watched(body: object, file) -> None:
        seen.append(stat.S_IMODE(os.fstat(file.fileno()).st_mode))
        dump(body, file)

    monkeypatch.setattr(json, "dump", watched)
    login.path().parent.mkdir(parents=True, mode=0o777)
    login.path().touch(mode=0o666)
    login.write(login.Login("http://127.0.0.1:1", "secret"))
    assert seen == [0o600]
    assert (mode(login.path()), mode(login.path().parent)) == (0o600, 0o700)


def test_the_password_also_comes_from_the_environment(anonymous: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(login.PASSWORD, PASSWORDS["viewer"])
    done = anonymous("login", "--url", stage.url + "/", "--user", "viewer", "--json")
    assert done.json == {"name": "viewer", "may": {"train": False, "fisher": False, "deploy": False}}
    assert "as viewer; may look.\n" in done.err
    assert login.read() == login.Login(stage.url, "token-of-viewer")


def test_a_wrong_password_leaves_the_login_that_was_there(anonymous: Run, stage: Stage):
    log_in(anonymous, stage)
    done = log_in(anonymous, stage, password="wrong")
    assert done.code == codes.NO_ACCESS
    assert done.err == f"Error: {stage.url} does not know this name with this password.\n"
    assert login.read() == login.Login(stage.url, "token-of-admin")


def test_a_password_is_asked_for_at_a_terminal_only(anonymous: Run, stage: Stage):
    done = anonymous("login", "--url", stage.url, "--user", "admin")
    assert done.code == codes.USAGE
    assert "--password-stdin" in done.err


@pytest.mark.parametrize("url", ["airflow.example", "ftp://airflow.example", "http://", "http://a:b@c/", "http://[1/"])
def test_an_address_must_be_one(anonymous: Run, stage: Stage, url: str):
    done = anonymous("login", "--url", url, "--user", "admin", "--password-stdin", stdin="x\n")
    assert done.code == codes.USAGE
    assert "Expected" in done.err
    assert stage.asked == []


def test_an_airflow_without_learning_engine_is_found_out_at_login(anonymous: Run, stage: Stage):
    done = anonymous("login", "--url", f"{stage.url}/elsewhere", "--user", "admin", "--password-stdin", stdin="x\n")
    assert done.code != codes.DONE
    assert login.read() is None


def test_a_password_over_plain_http_is_warned_of(anonymous: Run):
    done = anonymous("login", "--url", "http://airflow.invalid", "--user", "admin", "--password-stdin", stdin="x\n")
    assert "http://airflow.invalid is not encrypted" in done.err
    assert done.code == codes.NO_ACCESS


def test_logout_removes_the_file(cli: Run, stage: Stage):
    assert cli("logout", "--json").json == {"removed": True}
    assert not login.path().exists()
    assert cli("logout").err == "Nobody was logged in.\n"
    assert cli("live").code == codes.NO_ACCESS


def test_without_a_login_the_command_that_makes_one_is_named(anonymous: Run, stage: Stage):
    done = anonymous("live")
    assert (done.code, done.out) == (codes.NO_ACCESS, "")
    assert done.err == "Error: Nobody is logged in: run `learning-engine login --url URL --user NAME`.\n"
    assert f"login --url {stage.url} --user NAME" in anonymous("live", "--url", stage.url).err


def test_the_environment_wins_over_the_file_and_the_option_over_both(
    cli: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    login.write(login.Login("http://127.0.0.1:9", "of-the-file"))
    monkeypatch.setenv(login.URL, stage.url)
    monkeypatch.setenv(login.TOKEN, "token-of-viewer")
    assert cli("live").code == codes.DONE
    assert stage.asked[-1]["headers"]["authorization"] == "Bearer token-of-viewer"
    monkeypatch.setenv(login.URL, "http://127.0.0.1:9")
    assert cli("live").code == codes.NO_ACCESS
    assert cli("live", "--url", stage.url).code == codes.DONE


def test_the_files_token_goes_to_the_files_address_alone(cli: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch):
    login.write(login.Login("http://127.0.0.1:9", "secret"))
    done = cli("live", "--url", stage.url)
    assert done.code == codes.NO_ACCESS
    assert f"Nobody is logged in to {stage.url}" in done.err
    assert stage.asked == []


def test_a_password_in_netrc_does_not_take_the_tokens_place(
    cli: Run, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert cli("live").code == codes.DONE
    assert stage.asked[-1]["headers"]["authorization"] == "Bearer token-of-admin"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"url": "http://a"}', "\xff"])
def test_a_file_that_is_no_login_says_what_to_do(cli: Run, text: str):
    login.path().write_text(text, encoding="latin-1")
    done = cli("live")
    assert done.code == codes.NO_ACCESS
    assert "run `learning-engine login` again" in done.err


def test_such_a_file_is_in_nobodys_way_who_does_without(cli: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch):
    login.path().write_text("nonsense")
    monkeypatch.setenv(login.TOKEN, "token-of-viewer")
    assert cli("live", "--url", stage.url).code == codes.DONE
    assert log_in(cli, stage).code == codes.DONE


def test_a_file_that_others_may_read_is_warned_of(cli: Run):
    login.path().chmod(0o640)
    done = cli("live")
    assert done.code == codes.DONE
    assert f"chmod 600 {login.path()}" in done.err


def test_a_relative_config_home_is_ignored(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert login.path() == Path("/home/somebody/.config/learning-engine/login.json")


def test_a_token_of_a_secret_may_end_in_a_line_break(anonymous: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(login.URL, stage.url)
    monkeypatch.setenv(login.TOKEN, "token-of-admin\n")
    assert anonymous("live").code == codes.DONE


@pytest.mark.parametrize("token", ["“token-of-admin”", "token of\nadmin", "token-of-\x00admin"])
def test_what_is_no_token_is_refused_and_not_repeated(
    anonymous: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch, token: str
):
    monkeypatch.setattr(os, "environ", {**os.environ, login.URL: stage.url, login.TOKEN: token})
    shown = anonymous("live")
    assert (shown.code, shown.out, stage.asked) == (codes.NO_ACCESS, "", [])
    assert "Expected a token in LEARNING_ENGINE_TOKEN" in shown.err
    assert "admin" not in shown.err


def test_without_a_home_it_says_what_to_set(anonymous: Run, homeless: None):
    shown = anonymous("live")
    assert shown.code == codes.NO_ACCESS
    assert "set XDG_CONFIG_HOME" in " ".join(shown.err.split())


def test_an_address_must_be_given(anonymous: Run, stage: Stage):
    shown = anonymous("login", "--url", "", "--user", "admin", "--password-stdin", stdin="x\n")
    assert (shown.code, stage.asked) == (codes.USAGE, [])
    assert "expected the address of Airflow" in shown.err
