"""Where an archive's files are: in a zip, a tar or a folder, brought to local disk one by one, by name.

Nothing is ever written under a name that the archive chose: a member called `../../x` is a name nobody asks for.
"""

import contextlib
import hashlib
import shutil
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
ADVICE = "give the zip of a GBIF download in format Darwin Core Archive, or the folder it was unpacked to"


@dataclass(frozen=True)
class Files:
    """The files of an archive by their names inside it ("/" between folders); `get` gives one as a local path."""

    where: str
    sizes: dict[str, int]
    get: Callable[[str], Path]

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
                get = _unpacker(path, sizes, scratch, max_bytes, lambda name: archive.open(infos[name]))
                files = Files(str(path), sizes, get)
            elif tarfile.is_tarfile(path):
                tar = stack.enter_context(tarfile.open(path))
                members = {_clean(m.name): m for m in tar if m.isfile()}
                sizes = {name: member.size for name, member in members.items()}
                get = _unpacker(path, sizes, scratch, max_bytes, lambda name: _of_tar(tar, members[name]))
                files = Files(str(path), sizes, get)
            else:
                raise ArchiveError(f"{path} is no archive: {ADVICE}")
        yield files


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what the disk and the two modules say of unreadable and damaged archives into ArchiveError."""
    try:
        yield
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error}") from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise ArchiveError(f"{path} is damaged ({error}): download it again") from error


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
    return Files(str(folder), {name: p.stat().st_size for name, p in inside.items()}, lambda name: inside[name])


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
            )
        target = scratch / f"{len(list(scratch.iterdir()))}.txt"
        # zipfile and tarfile give no more than the size they told, and zipfile checks the checksum at the end.
        with _readable(path), open_member(name) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, CHUNK)
        return target

    return get
