"""Archives are deterministic, and no member can harm the machine that unpacks them."""

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from learning_engine import archive
from learning_engine.errors import IntegrityError

LIMIT = 1 << 20


def fill(directory: Path) -> Path:
    (directory / "sub").mkdir(parents=True)
    (directory / "adapter_config.json").write_text('{"r": 16}')
    (directory / "adapter_model.safetensors").write_bytes(os.urandom(10_000))
    (directory / "sub" / "ünïcode.txt").write_text("é")
    (directory / "empty").write_bytes(b"")
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def write_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], **options) -> Path:
    with tarfile.open(path, "w:gz", format=options.pop("format", tarfile.USTAR_FORMAT), **options) as tar:
        for info, data in members:
            info.size = info.size or len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def refuse(path: Path, tmp_path: Path, match: str, max_bytes: int = LIMIT) -> None:
    target = tmp_path / "target"
    with pytest.raises(IntegrityError, match=match):
        archive.unpack(path, target, max_bytes=max_bytes)
    assert not target.exists()


def test_an_unpacked_archive_has_the_packed_files(tmp_path: Path) -> None:
    source = fill(tmp_path / "a")
    packed = archive.pack(source, tmp_path / "a.tar.gz")
    archive.unpack(tmp_path / "a.tar.gz", tmp_path / "b", max_bytes=LIMIT)
    assert contents(tmp_path / "b") == contents(source)
    assert packed == archive.Packed(archive.sha256_file(tmp_path / "a.tar.gz"), (tmp_path / "a.tar.gz").stat().st_size)
    assert list(tmp_path.glob("*.part")) == []


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = fill(tmp_path / "a"), tmp_path / "b"
    second.mkdir()
    for name in sorted(contents(first), reverse=True):
        (second / name).parent.mkdir(exist_ok=True)
        (second / name).write_bytes((first / name).read_bytes())
        (second / name).chmod(0o600)
        os.utime(second / name, (1, 1))
    (second / "nothing").mkdir()
    one, two = archive.pack(first, tmp_path / "one.tar.gz"), archive.pack(second, tmp_path / "other name.tgz")
    assert one == two
    # The gzip header has no file name and no time.
    assert (tmp_path / "one.tar.gz").read_bytes()[3:8] == bytes(5)
    (second / "empty").write_text("x")
    assert archive.pack(second, tmp_path / "three.tar.gz").sha256 != one.sha256


def test_other_tools_read_an_archive(tmp_path: Path) -> None:
    archive.pack(fill(tmp_path / "a"), tmp_path / "a.tar.gz")
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        assert tar.getnames() == ["adapter_config.json", "adapter_model.safetensors", "empty", "sub/ünïcode.txt"]
        assert {(m.mode, m.uid, m.gid, m.mtime, m.uname) for m in tar} == {(0o644, 0, 0, 0, "")}


@pytest.mark.parametrize("name", ["link", "pipe"])
def test_pack_refuses_special_files(tmp_path: Path, name: str) -> None:
    source = fill(tmp_path / "a")
    (source / "link").symlink_to("/etc/passwd") if name == "link" else os.mkfifo(source / "pipe")
    with pytest.raises(IntegrityError, match="special file"):
        archive.pack(source, tmp_path / "a.tar.gz")
    assert not (tmp_path / "a.tar.gz").exists()


def test_pack_refuses_a_name_that_unpack_would_refuse(tmp_path: Path) -> None:
    source = fill(tmp_path / "a")
    (source / "c:x").write_text("x")
    with pytest.raises(IntegrityError, match="colon"):
        archive.pack(source, tmp_path / "a.tar.gz")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../evil", "'..' part"),
        ("a/../../evil", "'..' part"),
        ("./a", "'.' or"),
        ("a//b", "empty"),
        ("/etc/evil", "absolute"),
        ("C:evil", "colon"),
        ("C:\\evil", "backslash"),
        ("..\\evil", "backslash"),
        ("a\nb", "control"),
    ],
)
def test_a_dangerous_name_is_refused(tmp_path: Path, name: str, why: str) -> None:
    bad = write_tar(tmp_path / "bad.tar.gz", (member("good"), b"x"), (member(name), b"x"))
    refuse(bad, tmp_path, f"{why}.*member 1")
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.DIRTYPE, "directory"),
        (tarfile.CHRTYPE, "character device"),
        (tarfile.BLKTYPE, "block device"),
        (tarfile.FIFOTYPE, "pipe"),
        (tarfile.GNUTYPE_SPARSE, "sparse"),
        (tarfile.CONTTYPE, "type b'7'"),
    ],
)
def test_a_member_that_is_not_a_regular_file_is_refused(tmp_path: Path, kind: bytes, why: str) -> None:
    bad = write_tar(tmp_path / "bad.tar.gz", (member("good"), b"x"), (member("odd", kind, "good"), b""))
    refuse(bad, tmp_path, f"{why}.* member 1")


@pytest.mark.parametrize("layout", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_extended_headers_are_refused(tmp_path: Path, layout: int) -> None:
    refuse(write_tar(tmp_path / "bad.tar.gz", (member("x" * 200), b"x"), format=layout), tmp_path, "type .* member 0")


@pytest.mark.parametrize(("first", "second"), [("a", "a"), ("a", "A"), ("a", "a/b"), ("a/b", "a"), ("d/a", "D/A")])
def test_a_duplicate_name_is_refused(tmp_path: Path, first: str, second: str) -> None:
    bad = write_tar(tmp_path / "bad.tar.gz", (member(first), b"1"), (member(second), b"2"))
    refuse(bad, tmp_path, "member 1 a second time")


def test_the_total_size_is_limited(tmp_path: Path) -> None:
    bad = write_tar(tmp_path / "bad.tar.gz", (member("a"), b"0" * 600_000), (member("b"), b"0" * 600_000))
    refuse(bad, tmp_path, f"at most {LIMIT} bytes.* member 1")


def test_the_number_of_empty_files_is_limited(tmp_path: Path) -> None:
    refuse(
        write_tar(tmp_path / "bad.tar.gz", *((member(str(i)), b"") for i in range(30))), tmp_path, "member 19", 10_000
    )


def test_the_data_after_the_end_is_limited(tmp_path: Path) -> None:
    write_tar(tmp_path / "bad.tar.gz", (member("a"), b"x"))
    with gzip.open(tmp_path / "bad.tar.gz", "ab") as stream:
        stream.write(bytes(2 * archive.CHUNK))
    refuse(tmp_path / "bad.tar.gz", tmp_path, "more data")


def test_a_false_size_is_refused(tmp_path: Path) -> None:
    info = member("a")
    info.size = 1 << 33
    header = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "bad.tar.gz").write_bytes(gzip.compress(header))
    refuse(tmp_path / "bad.tar.gz", tmp_path, "at most .* member 0")
    refuse(tmp_path / "bad.tar.gz", tmp_path, "middle of a member", max_bytes=1 << 40)


def test_a_corrupt_archive_is_refused(tmp_path: Path) -> None:
    archive.pack(fill(tmp_path / "a"), tmp_path / "a.tar.gz")
    whole, bad = (tmp_path / "a.tar.gz").read_bytes(), tmp_path / "bad.tar.gz"
    for data in (
        b"",
        whole[:20],
        whole[:-9],
        b"PK" + whole,
        whole[:-8] + bytes(8),
        whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:],
    ):
        bad.write_bytes(data)
        refuse(bad, tmp_path, "corrupt|middle")
    for data in (b"not a tar" * 100, b"\0" * 100):
        bad.write_bytes(gzip.compress(data))
        refuse(bad, tmp_path, "corrupt")
    bad.write_bytes(gzip.compress(member("a").tobuf(tarfile.USTAR_FORMAT)[:-1] + b"\xff"))
    refuse(bad, tmp_path, "corrupt")
    odd = member("\udcff").tobuf(tarfile.USTAR_FORMAT, errors="surrogateescape")
    bad.write_bytes(gzip.compress(odd + bytes(1024)))
    refuse(bad, tmp_path, "member 0")


def test_an_archive_is_unpacked_only_into_an_empty_directory(tmp_path: Path) -> None:
    source = fill(tmp_path / "a")
    archive.pack(source, tmp_path / "a.tar.gz")
    before = contents(source)
    with pytest.raises(FileExistsError):
        archive.unpack(tmp_path / "a.tar.gz", source, max_bytes=LIMIT)
    assert contents(source) == before
    (tmp_path / "b").mkdir()
    archive.unpack(tmp_path / "a.tar.gz", tmp_path / "b", max_bytes=LIMIT)
    assert contents(tmp_path / "b") == before
