"""Where an archive's files are: in a zip, a tar or a folder, brought to local disk one by one, by name.

Nothing is ever written under a name that the archive chose: a member called `../../x` is a name nobody asks for.
"""

import contextlib
import errno
import gzip
import hashlib
import lzma
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aitax_ray.errors import ArchiveError

MAX_BYTES = 500 * 2**30  # unpacked, per file
CHUNK = 2**20
# What the modules say of mangled archives; ValueError also of names that are in no encoding.
DAMAGES = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    ValueError,
)
_ENCRYPTED = 0x1
LOCAL_HEADER = b"PK\3\4"
_ZIP_HEAD = struct.Struct("<4s5H3I2H")  # local file header, which ends in the lengths of the name and the extra field
ADVICE = "give the zip of a GBIF download in format Darwin Core Archive, or the folder it was unpacked to"


@dataclass(frozen=True)
class Files:
    """The files of an archive by their names inside it ("/" between folders).

    `get` gives one as a local path; `stream` gives it as gzip instead where that needs no unpacking, for readers that
    unpack while they read.
    """

    where: str
    sizes: dict[str, int]
    get: Callable[[str], Path]
    stream: Callable[[str], Path]

    def find(self, name: str) -> str | None:
        """The name of the file called `name`, at the top or in the folder nearest to it."""
        found = [n for n in self.sizes if n.rsplit("/", 1)[-1] == name]
        return min(found, key=lambda n: (n.count("/"), n), default=None)


@contextlib.contextmanager
def open_files(path: Path, scratch: Path, max_bytes: int = MAX_BYTES) -> Iterator[Files]:
    """List the files of an archive; those asked for are unpacked into `scratch`, which the caller cleans up.

    Raises ArchiveError when it is no archive, cannot be read, or a file has more than `max_bytes` or than the disk
    has room for.
    """
    with contextlib.ExitStack() as stack:
        with _readable(path):
            if path.is_dir():
                files = _open_folder(path)
            elif zipfile.is_zipfile(path):
                archive = stack.enter_context(zipfile.ZipFile(path))
                infos = {_clean(i.filename): i for i in archive.infolist() if not i.is_dir()}
                sizes = {name: info.file_size for name, info in infos.items()}
                get = _unpacker(path, sizes, scratch, max_bytes, lambda name: _of_zip(archive, infos[name]))
                files = Files(str(path), sizes, get, lambda name: _as_gzip(path, infos[name], scratch) or get(name))
            elif tarfile.is_tarfile(path):
                tar = stack.enter_context(tarfile.open(path))
                members = {_clean(m.name): m for m in tar if m.isfile()}
                # Only who reads to the end learns whether the checksum is right.
                while tar.fileobj and tar.fileobj.read(CHUNK):
                    pass
                sizes = {name: member.size for name, member in members.items()}
                get = _unpacker(path, sizes, scratch, max_bytes, lambda name: _of_tar(tar, members[name]))
                files = Files(str(path), sizes, get, get)
            elif _begins_as_zip(path):
                raise ArchiveError(f"{path} is damaged (a zip that breaks off): download it again")
            else:
                raise ArchiveError(f"{path} is no archive: {ADVICE}")
        yield files


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what the disk and the two modules say of unreadable and damaged archives into ArchiveError."""
    try:
        yield
    except DAMAGES as error:
        raise ArchiveError(f"{path} is damaged ({error}): download it again") from error
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error}") from error


def digest(path: Path) -> str:
    """sha256 of an archive: of the file, or of the names and contents of a folder's files. Raises ArchiveError."""
    if path.is_file():
        with _readable(path), path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    both = hashlib.sha256()
    for file_path in sorted(p for p in path.rglob("*") if p.is_file()):
        both.update(f"{file_path.relative_to(path).as_posix()}\0{digest(file_path)}\n".encode(errors="surrogateescape"))
    return both.hexdigest()


def _clean(name: str) -> str:
    # Archives made on Windows by careless tools have backslashes between folder and file.
    return name.replace("\\", "/").removeprefix("./")


def _open_folder(folder: Path) -> Files:
    top = folder.resolve()
    found = {p.relative_to(folder).as_posix(): p.resolve() for p in folder.rglob("*") if p.is_file()}
    inside = {name: p for name, p in found.items() if p.is_relative_to(top)}
    sizes = {name: p.stat().st_size for name, p in inside.items()}
    return Files(str(folder), sizes, inside.__getitem__, inside.__getitem__)


def _as_gzip(path: Path, info: zipfile.ZipInfo, scratch: Path) -> Path | None:
    """A deflated member of a zip with the head and the tail of a gzip file; None when it is not stored so.

    Both formats hold the same bytes (RFC 1951) between other frames, so nothing is unpacked.
    """
    if info.compress_type != zipfile.ZIP_DEFLATED or info.flag_bits & _ENCRYPTED:
        return None
    target = scratch / f"{len(list(scratch.iterdir()))}.txt.gz"
    with _readable(path), path.open("rb") as source, target.open("wb") as file:
        source.seek(info.header_offset)
        head = source.read(_ZIP_HEAD.size)
        if len(head) < _ZIP_HEAD.size or not head.startswith(LOCAL_HEADER):
            raise zipfile.BadZipFile(f"no header of {info.filename}")
        name_length, extra_length = _ZIP_HEAD.unpack(head)[-2:]
        source.seek(name_length + extra_length, 1)
        file.write(b"\x1f\x8b\x08" + bytes(6) + b"\xff")  # RFC 1952: deflate, no name, no time, any system
        left = info.compress_size
        while left:
            piece = source.read(min(left, CHUNK))
            if not piece:
                raise EOFError(f"{info.filename} ends early")
            file.write(piece)
            left -= len(piece)
        file.write(struct.pack("<II", info.CRC, info.file_size & 0xFFFFFFFF))
    return target


def _begins_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(LOCAL_HEADER)) == LOCAL_HEADER


def _of_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    if info.flag_bits & _ENCRYPTED:
        raise ArchiveError(f"{archive.filename} is encrypted: unpack it and give the folder")
    return archive.open(info)


def _of_tar(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(member)
    if stream is None:
        raise ArchiveError(f"{member.name} is no file: {ADVICE}")
    return stream


def _unpacker(
    path: Path, sizes: dict[str, int], scratch: Path, max_bytes: int, open_member: Callable[[str], IO[bytes]]
) -> Callable[[str], Path]:
    def get(name: str) -> Path:
        if sizes[name] > max_bytes:
            raise ArchiveError(f"{name} in {path} unpacks to {sizes[name]:,} bytes, more than {max_bytes:,}: refused")
        if sizes[name] > shutil.disk_usage(scratch).free:
            raise ArchiveError(
                f"{name} in {path} needs {sizes[name]:,} bytes below {scratch}: make room or set TMPDIR to another disk"
            ) from OSError(errno.ENOSPC, "no room")  # tells trouble of this machine from a bad archive
        target = scratch / f"{len(list(scratch.iterdir()))}.txt"
        # zipfile and tarfile give no more than the size they told, and zipfile checks the checksum at the end.
        with _readable(path), open_member(name) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, CHUNK)
        return target

    return get
