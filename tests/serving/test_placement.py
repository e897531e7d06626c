"""Adapters' directories on the model server's disk: written whole or not at all, and removed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from learning_engine import archive
from learning_engine.errors import IntegrityError, PreflightError
from learning_engine.serving import rollout
from tests.serving.test_rollout import mine


def accept(_: Path) -> None:
    """A check that passes."""


def refuse(_: Path) -> None:
    raise PreflightError("refused")


@pytest.fixture
def packed(adapters: Path, tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "adapter.tar.gz"
    return path, archive.pack(adapters / "good", path).sha256


def place(packed: tuple[Path, str], adapter_dir: Path, check: Callable[[Path], None] = accept, **changes: str) -> Path:
    arguments = {"sha256": packed[1], "name": "mine-v1.0-abc", **changes}
    return rollout.place(packed[0], adapter_dir=adapter_dir, check=check, max_bytes=10_000_000, **arguments)


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_placed_directory_is_complete_and_readable_by_the_server(
    packed: tuple[Path, str], adapters: Path, tmp_path: Path
) -> None:
    seen = []
    placed = place(packed, tmp_path / "disk", lambda directory: seen.append(content(directory)))
    assert seen == [content(adapters / "good")]
    assert content(placed) == seen[0]
    assert placed.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in placed.iterdir()} == {0o644}
    assert os.listdir(tmp_path / "disk") == ["mine-v1.0-abc"]  # noqa: PTH208


def test_place_again_changes_nothing(packed: tuple[Path, str], tmp_path: Path) -> None:
    placed = place(packed, tmp_path / "disk")
    before = [(path.name, path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(placed.iterdir())]
    assert place(packed, tmp_path / "disk") == placed
    assert [(path.name, path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(placed.iterdir())] == before


@pytest.mark.parametrize("damage", ["other bytes", "a missing file", "an extra file"])
def test_place_never_writes_into_a_directory_that_a_server_may_have_loaded(
    packed: tuple[Path, str], tmp_path: Path, damage: str
) -> None:
    placed = place(packed, tmp_path / "disk")
    if damage == "a missing file":
        (placed / "adapter_config.json").unlink()
    else:
        (placed / ("adapter_config.json" if damage == "other bytes" else "more.txt")).write_text("{}")
    before = content(placed)
    with pytest.raises(IntegrityError, match="expected the files of the archive"):
        place(packed, tmp_path / "disk")
    assert content(placed) == before


@pytest.mark.parametrize(
    ("changes", "check", "error"),
    [
        ({"sha256": "0" * 64}, accept, IntegrityError),
        ({"name": "../outside"}, accept, IntegrityError),
        ({"name": "a=b"}, accept, IntegrityError),
        ({"name": ".."}, accept, IntegrityError),
        ({"name": ""}, accept, IntegrityError),
        ({}, refuse, PreflightError),
    ],
)
def test_a_failed_place_leaves_nothing_behind(
    packed: tuple[Path, str],
    tmp_path: Path,
    changes: dict[str, str],
    check: Callable[[Path], None],
    error: type[Exception],
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with pytest.raises(error):
        place(packed, disk, check, **changes)
    assert list(disk.iterdir()) == []


def test_forget_removes_owned_directories_that_are_not_kept(packed: tuple[Path, str], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    for name in ("mine-v1.0", "mine-v1.1", "theirs-v1.0"):
        place(packed, disk, name=name)
    for name in (".mine-v1.2~old", ".mine-v1.2~young", ".theirs-v1.2~old"):
        shutil.copytree(disk / "mine-v1.0", disk / name)
    for name in (".mine-v1.2~old", ".theirs-v1.2~old"):
        os.utime(disk / name, (0, 0))
    (disk / "mine-notes.txt").write_text("a file")
    assert rollout.remove_obsolete(disk, {"mine-v1.1"}, mine) == [".mine-v1.2~old", "mine-v1.0"]
    left = sorted(path.name for path in disk.iterdir())
    assert left == [".mine-v1.2~young", ".theirs-v1.2~old", "mine-notes.txt", "mine-v1.1", "theirs-v1.0"]
    assert rollout.remove_obsolete(tmp_path / "nowhere", set(), mine) == []


def test_a_half_removed_directory_of_a_dead_worker_is_no_obstacle(packed: tuple[Path, str], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    for _ in range(2):
        shutil.copytree(place(packed, disk, name="mine-v1.0"), disk / ".mine-v1.0~removed", dirs_exist_ok=True)
        assert rollout.remove_obsolete(disk, set(), mine) == ["mine-v1.0"]
    assert [path.name for path in disk.iterdir()] == [".mine-v1.0~removed"]
    os.utime(disk / ".mine-v1.0~removed", (0, 0))
    assert rollout.remove_obsolete(disk, set(), mine) == [".mine-v1.0~removed"]


def test_a_directory_that_cannot_be_removed_is_logged_and_the_others_are_removed(
    packed: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk, remove = tmp_path / "disk", shutil.rmtree
    for name in ("mine-v1.0", "mine-v1.1"):
        place(packed, disk, name=name)

    def held(path: Path) -> None:
        if "v1.0" in path.name:
            raise OSError(39, "Directory not empty", str(path))
        remove(path)

    monkeypatch.setattr(rollout.shutil, "rmtree", held)
    assert rollout.remove_obsolete(disk, set(), mine) == ["mine-v1.1"]
    assert "serving.not_removed" in caplog.text
    assert [path.name.split("~")[0] for path in disk.iterdir()] == [".mine-v1.0"]
