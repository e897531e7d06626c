"""Adapter archives: a deterministic tar.gz, and an unpacker for untrusted input.

The format is plain USTAR with regular files only. The unpacker reads each 512-byte header itself, because `tarfile`
would follow links, sparse maps and extended headers. It refuses every other kind of member.
"""

import gzip
import hashlib
import io
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from learning_engine.errors import IntegrityError

# Every compression level shrinks float32 weights by only 7 %, so use the fastest.
COMPRESSION = 1
CHUNK = 1 << 20
KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.DIRTYPE: "a directory",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


@dataclass(frozen=True)
class Packed:
    """The digest (64 hexadecimal digits) and size in bytes of an archive."""

    sha256: str
    size: int


def sha256_file(path: Path) -> str:
    """The sha256 of a file as 64 hexadecimal digits, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack(directory: Path, archive: Path) -> Packed:
    """Pack every file below `directory` into the tar.gz `archive`, written atomically.

    Names are sorted, times, owners and modes are fixed, and empty directories are left out. Raises IntegrityError for
    a link or another special file, and for a name that `unpack` would refuse.
    """
    paths = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*")}
    part = archive.with_name(archive.name + ".part")
    with (
        part.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=COMPRESSION, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in sorted(paths):
            _add(tar, name, paths[name])
    packed = Packed(sha256_file(part), part.stat().st_size)
    part.replace(archive)
    return packed


def _add(tar: tarfile.TarFile, name: str, path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        return
    if path.is_symlink() or not path.is_file():
        raise IntegrityError(f"Expected regular files only, found a link or special file: {path}; remove it.")
    if reason := _invalid_name(name):
        raise IntegrityError(f"Expected a plain relative name, found one with {reason}: {path}; rename it.")
    member = tarfile.TarInfo(name)
    member.size, member.mode = path.stat().st_size, 0o644
    with path.open("rb") as file:
        tar.addfile(member, file)


def unpack(archive: Path, directory: Path, *, max_bytes: int) -> None:
    """Unpack a tar.gz into the new or empty `directory`, which is removed on failure.

    Raises IntegrityError, naming the member by its index, for a member that is not a regular file with a plain
    relative name, for a duplicate name, for more than `max_bytes` of content, and for a corrupt archive. Raises
    FileExistsError if `directory` is not empty.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise FileExistsError(f"Expected a new or empty directory, found files in {directory}")
    try:
        with gzip.open(archive, "rb") as stream:
            _read_members(stream, directory, max_bytes)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        shutil.rmtree(directory)
        raise IntegrityError(
            f"Expected a complete gzip stream, found a corrupt one: {archive}: {error}; download it again."
        ) from error
    except BaseException:
        shutil.rmtree(directory)
        raise


@dataclass
class _Names:
    """The names seen so far, case-folded because some file systems ignore case."""

    files: set[str] = field(default_factory=set)
    parents: set[str] = field(default_factory=set)

    def clash(self, name: str) -> bool:
        key = name.casefold()
        parents = {str(parent) for parent in PurePosixPath(key).parents} - {"."}
        if key in self.files | self.parents or parents & self.files:
            return True
        self.files.add(key)
        self.parents |= parents
        return False


def _read_members(stream: gzip.GzipFile, directory: Path, max_bytes: int) -> None:
    names, left, index = _Names(), max_bytes, 0
    while (member := _header(stream, index)) is not None:
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            kind = KINDS.get(member.type, f"a header of type {member.type!r}")
            raise IntegrityError(f"Expected regular files only, found {kind} as member {index} of the archive.")
        if reason := _invalid_name(member.name):
            raise IntegrityError(f"Expected plain relative names, found {reason} in the name of member {index}.")
        if names.clash(member.name):
            raise IntegrityError(f"Expected each name once, found the name of member {index} a second time.")
        # Counting the header block also bounds the number of empty files.
        left -= member.size + tarfile.BLOCKSIZE
        if member.size < 0 or left < 0:
            raise IntegrityError(f"Expected at most {max_bytes} bytes in total, found more at member {index}.")
        path = directory / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            _copy(stream, member.size, file.write)
        _copy(stream, -member.size % tarfile.BLOCKSIZE, lambda _: None)
        index += 1
    # gzip checks its checksum at the end of the stream, after tar's padding.
    if len(stream.read(CHUNK)) == CHUNK:
        raise IntegrityError(f"Expected the archive to end after {index} members, found more data after them.")


def _header(stream: gzip.GzipFile, index: int) -> tarfile.TarInfo | None:
    """The next member, or None at the end of the archive."""
    block = io.BytesIO()
    _copy(stream, tarfile.BLOCKSIZE, block.write)
    try:
        return tarfile.TarInfo.frombuf(block.getvalue(), "utf-8", "strict")
    except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # missing in typeshed
        return None
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise IntegrityError(f"Expected a tar header, found a corrupt one at member {index}: {error}") from error


def _copy(stream: gzip.GzipFile, count: int, write: Callable[[bytes], object]) -> None:
    while count:
        data = stream.read(min(count, CHUNK))
        if not data:
            raise EOFError("the data ends in the middle of a member")
        write(data)
        count -= len(data)


def _invalid_name(name: str) -> str | None:
    """Why `name` is not a plain relative file name, or None if it is one."""
    if name.startswith("/"):
        return "an absolute path"
    if re.search(r"[\x00-\x1f\x7f\\:]", name):
        return "a control character, a backslash or a colon"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "an empty, '.' or '..' part"
    return None
