"""The versions: list, detail, and an archive that is whole or not there."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.responses import Response

from learning_engine.cli import codes
from tests.cli import scene
from tests.cli.conftest import Run
from tests.cli.server import Stage


def test_the_list_is_filtered_by_the_server(cli: Run, stage: Stage):
    shown = cli("adapters", "list", "--limit", "1", "--accepted", "--not-revoked", "--base-model", "tiny-llama")
    assert shown.code == codes.DONE
    query = {"limit": "1", "offset": "0", "accepted": "true", "revoked": "false", "base_model": "tiny-llama"}
    assert stage.asked[-1]["query"] == query
    assert "v1.1" in shown.out
    assert "1 of 2; more with --offset 1." in shown.err
    assert "Cannot be read: v0.9" in shown.err
    assert cli("adapters", "list").code == codes.DONE
    assert stage.asked[-1]["query"] == {"limit": "20", "offset": "0"}
    assert cli("adapters", "list", "--rejected", "--revoked").out == "No version.\n"


def test_the_list_says_what_is_live_and_what_was_learned(cli: Run):
    row = next(line for line in cli("adapters", "list").out.splitlines() if line.startswith("v1.1"))
    assert " ".join(row.split()) == "v1.1 v1.0 2026-09-14 – 09-21 300 1.40 → 1.10 93% accepted live"


def test_the_detail_has_gate_lineage_and_reasons(cli: Run):
    words = " ".join(cli("adapters", "show", "v1.1").out.split())
    assert "lineage v1.1 ← v1.0 ← base" in words
    assert "loss 1.100, 1.400 of its parent, 2.200 of the base" in words
    assert "10 (10 unreadable)" in words
    assert "learned 0.25 >= 0 passed" in words
    assert "kept – >= 0.2 failed no held-out set | of v1.0" in words
    assert scene.SHA256 in words
    assert "revoked 2026-09-21 12:30 UTC by admin: worse than before" in " ".join(
        cli("adapters", "show", "v1.0").out.split()
    )


@pytest.mark.parametrize("version", ["1.0", "v1", "v1.0/../..", "v1.0 ", ""])
def test_a_version_is_read_before_anything_is_asked(cli: Run, stage: Stage, version: str):
    assert cli("adapters", "show", version).code == codes.USAGE
    assert stage.asked == []


class TestDownload:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        place = tmp_path / "here"
        place.mkdir()
        monkeypatch.chdir(place)
        return place

    def test_it_lies_there_whole(self, cli: Run, here: Path):
        shown = cli("adapters", "download", "v1.1")
        assert (shown.code, shown.out) == (codes.DONE, "")
        assert scene.SHA256 in shown.err
        assert list(here.iterdir()) == [here / "v1.1.tar.gz"]
        assert (here / "v1.1.tar.gz").read_bytes() == scene.ARCHIVE
        umask = os.umask(0)
        os.umask(umask)
        assert stat.S_IMODE((here / "v1.1.tar.gz").stat().st_mode) == 0o666 & ~umask

    def test_json_says_what_came_where(self, cli: Run, here: Path):
        (here / "below").mkdir()
        shown = cli("adapters", "download", "v1.1", "-o", "below", "--json")
        size = len(scene.ARCHIVE)
        expected = {"version": "v1.1", "file": "below/v1.1.tar.gz", "size": size, "sha256": scene.SHA256}
        assert shown.json == expected
        assert (here / "below" / "v1.1.tar.gz").exists()

    @pytest.mark.parametrize("change", ["archive", "header", "record", "no header"])
    def test_altered_bytes_are_refused_and_leave_no_file(self, cli: Run, stage: Stage, here: Path, change: str):
        if change == "archive":
            stage.archive = stage.archive[:-1] + b"!"
        elif change == "header":
            stage.promised = "1" * 64
        elif change == "no header":
            stage.instead["GET /learning-engine/adapters/v1.1/archive"] = [Response(stage.archive)]
        else:
            stage.versions = tuple(replace(version, sha256="2" * 64) for version in stage.versions)
        shown = cli("adapters", "download", "v1.1")
        assert shown.code == codes.FAILED
        assert "nothing was kept" in shown.err
        assert list(here.iterdir()) == []

    def test_bytes_that_end_early_leave_no_file(self, cli: Run, stage: Stage, here: Path):
        headers = {"Content-Length": str(len(stage.archive)), "X-Checksum-Sha256": stage.promised}
        short = Response(stage.archive[:100], headers=headers)
        stage.instead["GET /learning-engine/adapters/v1.1/archive"] = [short]
        shown = cli("adapters", "download", "v1.1")
        assert shown.code == codes.NO_ACCESS
        assert list(here.iterdir()) == []

    def test_a_file_that_is_there_stays_unless_it_is_to_go(self, cli: Run, stage: Stage, here: Path):
        (here / "mine").write_bytes(b"precious")
        shown = cli("adapters", "download", "v1.1", "-o", "mine")
        assert shown.code == codes.USAGE
        assert "--force" in shown.err
        assert stage.asked == []
        stage.archive = b"altered"
        assert cli("adapters", "download", "v1.1", "-o", "mine", "--force").code == codes.FAILED
        assert (here / "mine").read_bytes() == b"precious"
        stage.archive = scene.ARCHIVE
        assert cli("adapters", "download", "v1.1", "-o", "mine", "--force").code == codes.DONE
        assert (here / "mine").read_bytes() == scene.ARCHIVE
        assert list(here.iterdir()) == [here / "mine"]

    def test_a_directory_that_is_not_there_is_named(self, cli: Run):
        shown = cli("adapters", "download", "v1.1", "-o", "nowhere/v1.1.tar.gz")
        assert shown.code == codes.FAILED
        assert "Cannot write nowhere/v1.1.tar.gz: No such file or directory" in shown.err

    def test_an_unknown_version_leaves_no_file(self, cli: Run, here: Path):
        assert cli("adapters", "download", "v9.9").code == codes.NOT_FOUND
        assert list(here.iterdir()) == []

    @pytest.mark.parametrize("name", ["file/v1.1.tar.gz", "x" * 250, "x" * 300])
    def test_a_name_that_cannot_be_written_is_told(self, cli: Run, here: Path, name: str):
        (here / "file").touch()
        shown = cli("adapters", "download", "v1.1", "-o", name)
        assert shown.code == codes.FAILED
        assert f"Cannot write {name[:20]}" in shown.err
        assert list(here.iterdir()) == [here / "file"]
