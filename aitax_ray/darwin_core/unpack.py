"""The files of an archive: a zip, a tar or a folder. Each is brought to local disk when it is asked for by name.

No file is written under a name that the archive chose, such as `../../x`.
"""

import bz2
import contextlib
import errno
import gzip
import hashlib
import io
import lzma
import shutil
import struct
import tarfile
import threading
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from isal import igzip, isal_zlib

from aitax_ray.errors import ArchiveError

MAX_BYTES = 500 * 2**30  # unpacked, per file
MAX_RATIO = 300  # unpacked to packed bytes: tables of real archives reach 50, deflate reaches 1,032 at most
RATIO_EXEMPT_BYTES = 64 * 2**20  # files up to this size, unpacked, may have any ratio
MAX_LINE = 64 * 2**20  # bytes: the longest lines of real archives have some 100,000
CHUNK = 2**20
BEGIN = 2**16  # bytes of a file that show its line ends
TAR_OPENERS = {b"\x1f\x8b": igzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}  # by first bytes
# What zipfile, tarfile and the decompressors raise for damaged archives. ValueError is also for names that cannot be
# decoded.
ISAL_ERROR: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # isal's type stub declares an instance
DAMAGE_ERRORS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    ISAL_ERROR,
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

    `where` names the archive in messages. `get` gives a file as a local path, unpacked where it has to be. `stream`
    yields a file in pieces, without a copy on disk where the archive allows that.
    """

    where: str
    sizes: dict[str, int]
    get: Callable[[str], Path]
    stream: Callable[[str], Iterator[bytes]]

    def find(self, name: str) -> str | None:
        """The path in the archive of the file called `name`; of several, the one in the fewest folders.

        Windows does not tell capitals apart, so "META.XML" is found too.
        """
        found = [n for n in self.sizes if n.rsplit("/", 1)[-1].lower() == name.lower()]
        return min(found, key=lambda n: (n.count("/"), n), default=None)


@contextlib.contextmanager
def open_files(path: Path, scratch: Path, max_bytes: int = MAX_BYTES) -> Iterator[Files]:
    """List the files of an archive; those asked for are unpacked into `scratch`, which the caller cleans up.

    Raises ArchiveError when it is no archive or cannot be read. `Files.get` raises it when a file is larger than
    `max_bytes` or the free disk, unpacks to more than MAX_RATIO times its packed size, or has a line above MAX_LINE.
    """
    with contextlib.ExitStack() as stack:
        with _readable(path):
            if path.is_dir():
                files = _open_folder(path)
            elif zipfile.is_zipfile(path):
                archive = stack.enter_context(zipfile.ZipFile(path))
                infos = {_clean(i.filename): i for i in archive.infolist() if not i.is_dir()}
                sizes = {name: info.file_size for name, info in infos.items()}
                packed = {name: info.compress_size for name, info in infos.items()}
                stream = _streamer(
                    path, sizes, max_bytes, lambda name: _open_zip_member(path, archive, infos[name]), packed
                )
                files = Files(str(path), sizes, _unpacker(path, sizes, scratch, stream), stream)
            elif tarfile.is_tarfile(path):
                _check_compressed_tar(path)
                tar = stack.enter_context(tarfile.open(path))
                members = {_clean(m.name): m for m in tar if m.isfile()}
                sizes = {name: member.size for name, member in members.items()}
                stream = _streamer(path, sizes, max_bytes, lambda name: _open_tar_member(tar, members[name]))
                # All members are read through one open file.
                get = _one_at_a_time(_unpacker(path, sizes, scratch, stream))
                files = Files(str(path), sizes, get, lambda name: _pieces(get(name)))
            elif _begins_as_zip(path):
                raise ArchiveError(f"{path} is damaged (a zip that breaks off): download it again")
            else:
                raise ArchiveError(f"{path} is no archive: {ADVICE}")
        yield files


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn OSError and DAMAGE_ERRORS into ArchiveError."""
    try:
        yield
    except DAMAGE_ERRORS as error:
        raise ArchiveError(f"{path} is damaged ({error}): download it again") from error
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error}") from error


def digest(path: Path) -> str:
    """sha256 of an archive: of the file, or of the names and contents of a folder's files. Raises ArchiveError."""
    if path.is_file():
        with _readable(path), path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    combined = hashlib.sha256()
    for file_path in sorted(p for p in path.rglob("*") if p.is_file()):
        combined.update(
            f"{file_path.relative_to(path).as_posix()}\0{digest(file_path)}\n".encode(errors="surrogateescape")
        )
    return combined.hexdigest()


def _clean(name: str) -> str:
    # Archives made on Windows by careless tools have backslashes between folder and file.
    return name.replace("\\", "/").removeprefix("./")


def _open_folder(folder: Path) -> Files:
    top = folder.resolve()
    found = {p.relative_to(folder).as_posix(): p.resolve() for p in folder.rglob("*") if p.is_file()}
    inside = {name: p for name, p in found.items() if p.is_relative_to(top)}
    sizes = {name: p.stat().st_size for name, p in inside.items()}

    def get(name: str) -> Path:
        lines = _Lines(folder, name)
        with _readable(folder), inside[name].open("rb") as file:
            while chunk := file.read(CHUNK):
                lines.check(chunk)
        return inside[name]

    return Files(str(folder), sizes, get, lambda name: _pieces(get(name)))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


class _Lines:
    """Refuses a file with a line above MAX_LINE: readers of tables hold a whole line in memory, and some crash then."""

    def __init__(self, where: Path, name: str) -> None:
        self.where, self.name, self.length = where, name, 0
        self.begin = b""

    def check(self, chunk: bytes) -> None:
        """Look at the next piece of the file. Raises ArchiveError."""
        if len(self.begin) < BEGIN:
            self.begin += chunk[: BEGIN - len(self.begin)]
        end = b"\r" if has_only_returns(self.begin) else b"\n"
        first_end = chunk.find(end)
        self.length += len(chunk) if first_end < 0 else first_end
        if self.length > MAX_LINE:
            raise ArchiveError(
                f"{self.name} in {self.where} has a line of more than {MAX_LINE:,} bytes, which no table has: refused"
            )
        if first_end >= 0:
            self.length = len(chunk) - chunk.rfind(end) - 1


def has_only_returns(begin: bytes) -> bool:
    """Whether the first BEGIN bytes of a text show carriage returns as line ends, as old Macintosh programs write."""
    return b"\r" in begin and b"\n" not in begin and b"\0" not in begin


def _one_at_a_time(get: Callable[[str], Path]) -> Callable[[str], Path]:
    lock = threading.Lock()

    def locked(name: str) -> Path:
        with lock:
            return get(name)

    return locked


def _check_compressed_tar(path: Path) -> None:
    """Unpack a tar once without keeping it, which shows its size and whether its checksum is right."""
    with path.open("rb") as file:
        begin = file.read(8)
    opener: Any = next((found for magic, found in TAR_OPENERS.items() if begin.startswith(magic)), None)
    if opener is None:
        return
    left = max(RATIO_EXEMPT_BYTES, MAX_RATIO * path.stat().st_size)
    with opener(path, "rb") as stream:
        while chunk := stream.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                raise ArchiveError(
                    f"{path} unpacks to more than {MAX_RATIO} times its bytes, as no real table does: refused"
                )


class _Inflated(io.RawIOBase):
    """A deflated member of a zip, inflated by ISA-L, which takes a quarter of zlib's time. Raises BadZipFile."""

    def __init__(self, path: Path, info: zipfile.ZipInfo) -> None:
        self.file, self.info = path.open("rb"), info
        self.left, self.size, self.crc = info.compress_size, 0, 0
        self.inflater = isal_zlib.decompressobj(-zlib.MAX_WBITS)
        self.file.seek(info.header_offset)
        head = self.file.read(_ZIP_HEAD.size)
        if len(head) < _ZIP_HEAD.size or not head.startswith(LOCAL_HEADER):
            raise zipfile.BadZipFile(f"no header of {info.filename}")
        name_length, extra_length = _ZIP_HEAD.unpack(head)[-2:]
        self.file.seek(name_length + extra_length, 1)

    def read(self, size: int = -1) -> bytes:
        """The next piece, of at most `size` bytes; b"" at the end, where size and checksum are checked."""
        while not self.inflater.eof:
            packed = self.inflater.unconsumed_tail
            if not packed and self.left:
                packed = self.file.read(min(self.left, CHUNK))
                self.left -= len(packed)
            piece = bytes(self.inflater.decompress(packed, max(size, 0) or CHUNK))
            if piece:
                self.size += len(piece)
                self.crc = isal_zlib.crc32(piece, self.crc)
                if self.size > self.info.file_size:
                    break
                return piece
            if not packed and not self.inflater.eof:
                raise EOFError(f"{self.info.filename} ends early")
        if (self.size, self.crc) != (self.info.file_size, self.info.CRC):
            raise zipfile.BadZipFile(f"{self.info.filename} has another size or checksum than the zip declares")
        return b""

    def close(self) -> None:
        """Close the zip."""
        self.file.close()
        super().close()


def _begins_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(LOCAL_HEADER)) == LOCAL_HEADER


def _open_zip_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    if info.flag_bits & _ENCRYPTED:
        raise ArchiveError(f"{path} is encrypted: unpack it and give the folder")
    return _Inflated(path, info) if info.compress_type == zipfile.ZIP_DEFLATED else archive.open(info)


def _open_tar_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(member)
    if stream is None:
        raise ArchiveError(f"{member.name} is no file: {ADVICE}")
    return stream


def _streamer(
    path: Path,
    sizes: dict[str, int],
    max_bytes: int,
    open_member: Callable[[str], Any],
    packed: Mapping[str, int] | None = None,
) -> Callable[[str], Iterator[bytes]]:
    def stream(name: str) -> Iterator[bytes]:
        size = sizes[name]
        if size > max_bytes:
            raise ArchiveError(f"{name} in {path} unpacks to {size:,} bytes, more than {max_bytes:,}: refused")
        if packed is not None and size > max(RATIO_EXEMPT_BYTES, MAX_RATIO * packed[name]):
            raise ArchiveError(
                f"{name} in {path} unpacks to more than {MAX_RATIO} times its bytes, as no real table does: refused"
            )
        lines = _Lines(path, name)
        # Readers stop at the size that the archive declares, so nothing is counted here. Those of zips verify the
        # checksum.
        with _readable(path), open_member(name) as source:
            while chunk := source.read(CHUNK):
                lines.check(chunk)
                yield chunk

    return stream


def _unpacker(
    path: Path, sizes: dict[str, int], scratch: Path, stream: Callable[[str], Iterator[bytes]]
) -> Callable[[str], Path]:
    def get(name: str) -> Path:
        size = sizes[name]
        pieces = stream(name)
        first = next(pieces, b"")  # a file that is too large is refused before its room on disk is looked at
        if size > shutil.disk_usage(scratch).free:
            raise ArchiveError(
                f"{name} in {path} needs {size:,} bytes of disk in {scratch}: make room or set TMPDIR to another disk"
            ) from OSError(errno.ENOSPC, "no room")
        target = scratch / f"{uuid.uuid4().hex}.txt"
        with target.open("wb") as file:
            file.write(first)
            file.writelines(pieces)
        return target

    return get
