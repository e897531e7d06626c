"""login and logout, the login file, and the precedence of options and environment."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from learning_engine.cli import exit_codes, login
from tests.cli.conftest import Run
from tests.cli.stub import Stub
from tests.cli.stub_server import PASSWORDS


@pytest.fixture
def without_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr(Path, "home", none)


@pytest.fixture
def umask() -> Iterator[None]:
    """A umask of 0: files are world-readable unless the program restricts them."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def log_in(run: Run, stub: Stub, *more: str, user: str = "admin", password: str | None = None):
    secret = PASSWORDS[user] if password is None else password
    return run("login", "--url", stub.url, "--user", user, "--password-stdin", *more, stdin=f"{secret}\n")


def test_login_stores_address_and_token_readable_by_the_owner_only(anonymous: Run, stub: Stub, home: Path, umask: None):
    done = log_in(anonymous, stub)
    assert (done.code, done.out) == (exit_codes.DONE, "")
    assert done.err == f"Logged in to {stub.url} as admin; may read, train, fisher, deploy.\n"
    file = home / "learning-engine" / "login.json"
    assert json.loads(file.read_text()) == {"url": stub.url, "token": "token-of-admin"}
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


def test_the_password_also_comes_from_the_environment(anonymous: Run, stub: Stub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(login.PASSWORD, PASSWORDS["viewer"])
    done = anonymous("login", "--url", stub.url + "/", "--user", "viewer", "--json")
    assert done.json == {"name": "viewer", "may": {"train": False, "fisher": False, "deploy": False}}
    assert "as viewer; may read.\n" in done.err
    assert login.read() == login.Login(stub.url, "token-of-viewer")


def test_a_wrong_password_keeps_the_existing_login(anonymous: Run, stub: Stub):
    log_in(anonymous, stub)
    done = log_in(anonymous, stub, password="wrong")
    assert done.code == exit_codes.NO_ACCESS
    assert done.err == f"Error: {stub.url} rejected this user name and password.\n"
    assert login.read() == login.Login(stub.url, "token-of-admin")


def test_no_password_prompt_without_a_terminal(anonymous: Run, stub: Stub):
    done = anonymous("login", "--url", stub.url, "--user", "admin")
    assert done.code == exit_codes.USAGE
    assert "--password-stdin" in done.err


@pytest.mark.parametrize("url", ["airflow.example", "ftp://airflow.example", "http://", "http://a:b@c/", "http://[1/"])
def test_an_invalid_address_is_rejected(anonymous: Run, stub: Stub, url: str):
    done = anonymous("login", "--url", url, "--user", "admin", "--password-stdin", stdin="x\n")
    assert done.code == exit_codes.USAGE
    assert "Expected" in done.err
    assert stub.asked == []


def test_login_detects_an_airflow_without_learning_engine(anonymous: Run, stub: Stub):
    done = anonymous("login", "--url", f"{stub.url}/elsewhere", "--user", "admin", "--password-stdin", stdin="x\n")
    assert done.code != exit_codes.DONE
    assert login.read() is None


def test_a_password_over_plain_http_causes_a_warning(anonymous: Run):
    done = anonymous("login", "--url", "http://airflow.invalid", "--user", "admin", "--password-stdin", stdin="x\n")
    assert "http://airflow.invalid is not encrypted" in done.err
    assert done.code == exit_codes.NO_ACCESS


def test_logout_removes_the_file(cli: Run, stub: Stub):
    assert cli("logout", "--json").json == {"removed": True}
    assert not login.path().exists()
    assert cli("logout").err == "You were not logged in.\n"
    assert cli("live").code == exit_codes.NO_ACCESS


def test_a_missing_login_names_the_login_command(anonymous: Run, stub: Stub):
    done = anonymous("live")
    assert (done.code, done.out) == (exit_codes.NO_ACCESS, "")
    assert done.err == "Error: Not logged in: run `learning-engine login --url URL --user NAME`.\n"
    assert f"login --url {stub.url} --user NAME" in anonymous("live", "--url", stub.url).err


def test_option_overrides_environment_overrides_file(cli: Run, stub: Stub, monkeypatch: pytest.MonkeyPatch):
    login.write(login.Login("http://127.0.0.1:9", "of-the-file"))
    monkeypatch.setenv(login.URL, stub.url)
    monkeypatch.setenv(login.TOKEN, "token-of-viewer")
    assert cli("live").code == exit_codes.DONE
    assert stub.asked[-1]["headers"]["authorization"] == "Bearer token-of-viewer"
    monkeypatch.setenv(login.URL, "http://127.0.0.1:9")
    assert cli("live").code == exit_codes.NO_ACCESS
    assert cli("live", "--url", stub.url).code == exit_codes.DONE


def test_the_stored_token_is_sent_only_to_its_address(cli: Run, stub: Stub, monkeypatch: pytest.MonkeyPatch):
    login.write(login.Login("http://127.0.0.1:9", "secret"))
    done = cli("live", "--url", stub.url)
    assert done.code == exit_codes.NO_ACCESS
    assert f"Not logged in to {stub.url}" in done.err
    assert stub.asked == []


def test_netrc_does_not_replace_the_token(cli: Run, stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "netrc").write_text("default login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert cli("live").code == exit_codes.DONE
    assert stub.asked[-1]["headers"]["authorization"] == "Bearer token-of-admin"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"url": "http://a"}', "\xff"])
def test_an_invalid_login_file_is_reported(cli: Run, text: str):
    login.path().write_text(text, encoding="latin-1")
    done = cli("live")
    assert done.code == exit_codes.NO_ACCESS
    assert "run `learning-engine login` again" in done.err


def test_an_invalid_login_file_does_not_matter_if_unused(cli: Run, stub: Stub, monkeypatch: pytest.MonkeyPatch):
    login.path().write_text("nonsense")
    monkeypatch.setenv(login.TOKEN, "token-of-viewer")
    assert cli("live", "--url", stub.url).code == exit_codes.DONE
    assert log_in(cli, stub).code == exit_codes.DONE


def test_a_login_file_readable_by_others_causes_a_warning(cli: Run):
    login.path().chmod(0o640)
    done = cli("live")
    assert done.code == exit_codes.DONE
    assert f"chmod 600 {login.path()}" in done.err


def test_a_relative_config_home_is_ignored(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert login.path() == Path("/home/somebody/.config/learning-engine/login.json")


def test_a_trailing_line_break_in_the_token_is_ignored(anonymous: Run, stub: Stub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(login.URL, stub.url)
    monkeypatch.setenv(login.TOKEN, "token-of-admin\n")
    assert anonymous("live").code == exit_codes.DONE


@pytest.mark.parametrize("token", ["“token-of-admin”", "token of\nadmin", "token-of-\x00admin"])
def test_an_invalid_token_is_rejected_and_not_printed(
    anonymous: Run, stub: Stub, monkeypatch: pytest.MonkeyPatch, token: str
):
    monkeypatch.setattr(os, "environ", {**os.environ, login.URL: stub.url, login.TOKEN: token})
    shown = anonymous("live")
    assert (shown.code, shown.out, stub.asked) == (exit_codes.NO_ACCESS, "", [])
    assert "Expected a token in LEARNING_ENGINE_TOKEN" in shown.err
    assert "admin" not in shown.err


def test_a_missing_home_directory_is_reported(anonymous: Run, without_home: None):
    shown = anonymous("live")
    assert shown.code == exit_codes.NO_ACCESS
    assert "set XDG_CONFIG_HOME" in " ".join(shown.err.split())


def test_an_empty_address_is_rejected(anonymous: Run, stub: Stub):
    shown = anonymous("login", "--url", "", "--user", "admin", "--password-stdin", stdin="x\n")
    assert (shown.code, stub.asked) == (exit_codes.USAGE, [])
    assert "expected the address of Airflow" in shown.err
