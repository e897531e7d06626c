"""The adapters commands: list, show, and atomic download."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.responses import Response

from learning_engine.cli import exit_codes
from learning_engine.records.report import Content, Slice
from tests.cli import samples
from tests.cli.conftest import Run
from tests.cli.stub import Stub


def test_list_filters_on_the_server(cli: Run, stub: Stub):
    shown = cli("adapters", "list", "--limit", "1", "--accepted", "--not-revoked", "--base-model", "tiny-llama")
    assert shown.code == exit_codes.DONE
    query = {"limit": "1", "offset": "0", "accepted": "true", "revoked": "false", "base_model": "tiny-llama"}
    assert stub.asked[-1]["query"] == query
    assert "v1.1" in shown.out
    assert "1 of 2; more with --offset 1." in shown.err
    assert "Cannot be read: v0.9" in shown.err
    assert cli("adapters", "list").code == exit_codes.DONE
    assert stub.asked[-1]["query"] == {"limit": "20", "offset": "0"}
    assert cli("adapters", "list", "--rejected", "--revoked").out == "No versions.\n"


def test_list_shows_live_version_and_losses(cli: Run):
    row = next(line for line in cli("adapters", "list").out.splitlines() if line.startswith("v1.1"))
    assert " ".join(row.split()) == "v1.1 v1.0 2026-09-14 – 09-21 300 1.40 → 1.10 93% accepted live"


def test_show_prints_gate_lineage_and_reasons(cli: Run):
    words = " ".join(cli("adapters", "show", "v1.1").out.split())
    assert "lineage v1.1 ← v1.0 ← base" in words
    assert "loss 1.100, 1.400 of its parent, 2.200 of the base" in words
    assert "10 (10 unreadable)" in words
    assert "learned 0.25 >= 0 passed" in words
    assert "kept – >= 0.2 failed no held-out set | of v1.0" in words
    assert samples.SHA256 in words
    assert "revoked 2026-09-21 12:30 UTC by admin: worse than before" in " ".join(
        cli("adapters", "show", "v1.0").out.split()
    )


def test_show_marks_slices_that_fell(cli: Run, stub: Stub):
    assert "Slices" not in cli("adapters", "show", "v1.1").out
    part = Slice("language", "[red]de", 14, 2.1, 1.92, 3.0, taught=Content(9, 8, 0.75), retained=0.4, fell=True)
    first, second = samples.VERSIONS
    report = replace(second.report, slices=[part, Slice("language", "", 9)])
    stub.versions = (first, replace(second, report=report))
    words = " ".join(cli("adapters", "show", "v1.1").out.split())
    assert "language=[red]de 14 2.100 1.920 3.000 75% 40% fell" in words
    assert "language=(none) 9 – – – – –" in words


@pytest.mark.parametrize("version", ["1.0", "v1", "v1.0/../..", "v1.0 ", ""])
def test_an_invalid_version_is_rejected_locally(cli: Run, stub: Stub, version: str):
    assert cli("adapters", "show", version).code == exit_codes.USAGE
    assert stub.asked == []


class TestDownload:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        place = tmp_path / "here"
        place.mkdir()
        monkeypatch.chdir(place)
        return place

    def test_the_file_is_complete(self, cli: Run, here: Path):
        shown = cli("adapters", "download", "v1.1")
        assert (shown.code, shown.out) == (exit_codes.DONE, "")
        assert samples.SHA256 in shown.err
        assert list(here.iterdir()) == [here / "v1.1.tar.gz"]
        assert (here / "v1.1.tar.gz").read_bytes() == samples.ARCHIVE
        umask = os.umask(0)
        os.umask(umask)
        assert stat.S_IMODE((here / "v1.1.tar.gz").stat().st_mode) == 0o666 & ~umask

    def test_json_names_file_size_and_digest(self, cli: Run, here: Path):
        (here / "below").mkdir()
        shown = cli("adapters", "download", "v1.1", "-o", "below", "--json")
        size = len(samples.ARCHIVE)
        expected = {"version": "v1.1", "file": "below/v1.1.tar.gz", "size": size, "sha256": samples.SHA256}
        assert shown.json == expected
        assert (here / "below" / "v1.1.tar.gz").exists()

    @pytest.mark.parametrize("change", ["archive", "header", "record", "no header"])
    def test_a_wrong_digest_leaves_no_file(self, cli: Run, stub: Stub, here: Path, change: str):
        if change == "archive":
            stub.archive = stub.archive[:-1] + b"!"
        elif change == "header":
            stub.promised = "1" * 64
        elif change == "no header":
            stub.instead["GET /learning-engine/adapters/v1.1/archive"] = [Response(stub.archive)]
        else:
            stub.versions = tuple(replace(version, sha256="2" * 64) for version in stub.versions)
        shown = cli("adapters", "download", "v1.1")
        assert shown.code == exit_codes.FAILED
        assert "nothing was kept" in shown.err
        assert list(here.iterdir()) == []

    def test_a_truncated_download_leaves_no_file(self, cli: Run, stub: Stub, here: Path):
        headers = {"Content-Length": str(len(stub.archive)), "X-Checksum-Sha256": stub.promised}
        short = Response(stub.archive[:100], headers=headers)
        stub.instead["GET /learning-engine/adapters/v1.1/archive"] = [short]
        shown = cli("adapters", "download", "v1.1")
        assert shown.code == exit_codes.NO_ACCESS
        assert list(here.iterdir()) == []

    def test_an_existing_file_is_kept_without_force(self, cli: Run, stub: Stub, here: Path):
        (here / "mine").write_bytes(b"precious")
        shown = cli("adapters", "download", "v1.1", "-o", "mine")
        assert shown.code == exit_codes.USAGE
        assert "--force" in shown.err
        assert stub.asked == []
        stub.archive = b"altered"
        assert cli("adapters", "download", "v1.1", "-o", "mine", "--force").code == exit_codes.FAILED
        assert (here / "mine").read_bytes() == b"precious"
        stub.archive = samples.ARCHIVE
        assert cli("adapters", "download", "v1.1", "-o", "mine", "--force").code == exit_codes.DONE
        assert (here / "mine").read_bytes() == samples.ARCHIVE
        assert list(here.iterdir()) == [here / "mine"]

    def test_a_missing_directory_is_named(self, cli: Run):
        shown = cli("adapters", "download", "v1.1", "-o", "nowhere/v1.1.tar.gz")
        assert shown.code == exit_codes.FAILED
        assert "Cannot write nowhere/v1.1.tar.gz: No such file or directory" in shown.err

    def test_an_unknown_version_leaves_no_file(self, cli: Run, here: Path):
        assert cli("adapters", "download", "v9.9").code == exit_codes.NOT_FOUND
        assert list(here.iterdir()) == []

    @pytest.mark.parametrize("name", ["file/v1.1.tar.gz", "x" * 250, "x" * 300])
    def test_an_unwritable_name_is_reported(self, cli: Run, here: Path, name: str):
        (here / "file").touch()
        shown = cli("adapters", "download", "v1.1", "-o", name)
        assert shown.code == exit_codes.FAILED
        assert f"Cannot write {name[:20]}" in shown.err
        assert list(here.iterdir()) == [here / "file"]
