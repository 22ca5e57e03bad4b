"""The fetched archive under the root: fetch it, continue after a kill, use it again, delete it when it is damaged.

archive/query.json says where the archive came from. It is written before the first byte is fetched, and again with the
sha256 of the complete archive. A kill leaves one of these states. The next run continues as the right column says:

    query.json of another source, or none      ask for the archive and fetch it
    query.json without archive.zip             ask for the archive, then fetch the bytes that are missing
    query.json without sha256, archive.zip     the archive is complete: compute its sha256
    query.json with sha256, archive.zip        use the archive if the sha256 is right, else fetch it again
"""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow.fs as pafs

from aitax_ray.darwin_core import unpack
from aitax_ray.errors import ArchiveError
from aitax_ray.gbif.client import Client
from aitax_ray.gbif.fetch import fetch
from aitax_ray.manifest.addresses import digest_address
from aitax_ray.manifest.origin import Origin
from aitax_ray.storage import Storage
from aitax_ray.web import hide_secrets
from aitax_ray.workspace import ARCHIVE, QUERY

log = logging.getLogger(__name__)

STORED = f"{ARCHIVE}/archive.zip"  # also the name of a tar: unpack.py recognizes the format by the first bytes


@dataclass(frozen=True)
class Link:
    """Where to fetch an archive, its size in bytes (0 when it is not known), and where its data come from."""

    url: str
    size: int
    origin: Origin


@contextlib.contextmanager
def open_stored(
    storage: Storage, client: Client, source: str, find_link: Callable[[], Link]
) -> Iterator[tuple[Path, Origin]]:
    """Give the archive that came from `source` as a local file, with its origin. Fetch it when it is not there.

    When the caller raises an ArchiveError while it reads the archive, the archive is deleted, and the next run fetches
    it again. It stays when the cause is an error of this machine, such as a full disk.
    """
    with contextlib.ExitStack() as stack:
        # On a local root the incomplete file stays beside the archive, so that the next run continues it.
        folder = (
            Path(storage.full(ARCHIVE))
            if _is_local(storage)
            else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aitax-fetch-")))
        )
        path = folder / "archive.zip"
        origin = _find(storage, source, path) or _fetch(storage, client, source, path, find_link())
        try:
            yield path, origin
        except ArchiveError as error:
            if _is_of_this_machine(error):
                raise
            storage.delete(STORED)
            raise ArchiveError(f"{error} (the archive was deleted: the same command fetches it again)") from error


def is_stored(storage: Storage, source: str) -> bool:
    """Whether the archive that came from `source` is under the root, complete and undamaged."""
    origin = _read_origin(storage, source)
    return origin is not None and origin.sha256 in ("", storage.sha256(STORED))


def _find(storage: Storage, source: str, path: Path) -> Origin | None:
    """Read the origin of the archive under the root, and bring the archive to `path`; None when it must be fetched."""
    origin = _read_origin(storage, source)
    if origin is None:
        return None
    if not _is_local(storage):
        storage.fetch(STORED, path.parent)
    digest = unpack.digest(path)
    if not origin.sha256:
        origin = replace(origin, sha256=digest)
        storage.write_json(QUERY, asdict(origin))
    if digest != origin.sha256:
        log.warning("%s has changed since it was fetched: fetching it again", storage.address(STORED))
        return None
    log.info("%s is under %s already", hide_secrets(source), storage.address())
    return origin


def _fetch(storage: Storage, client: Client, source: str, path: Path, link: Link) -> Origin:
    """Fetch an archive into `path` and store it."""
    origin = replace(link.origin, source_digest=digest_address(source), archive=STORED)
    # First, because query.json without sha256 means that an archive beside it is complete.
    storage.delete(STORED)
    storage.write_json(QUERY, asdict(origin))
    part = path.with_name(f".{digest_address(link.url)[:16]}.part")
    for other in path.parent.glob(".*.part*"):
        if not other.name.startswith(part.name):
            other.unlink()
    fetch(client, link.url, path, part=part, size=link.size)
    if not _is_local(storage):
        storage.upload(path.parent, ARCHIVE)
    origin = replace(origin, sha256=unpack.digest(path))
    storage.write_json(QUERY, asdict(origin))
    return origin


def _read_origin(storage: Storage, source: str) -> Origin | None:
    """Read query.json; None when the archive under the root came from another source, or when there is none."""
    if not storage.exists(QUERY) or not storage.exists(STORED):
        return None
    known = storage.read_json(QUERY)
    origin = Origin(**{name: known[name] for name in Origin.__dataclass_fields__ if name in known})
    is_same = (origin.source_digest or digest_address(origin.source)) == digest_address(source)
    return origin if is_same and origin.archive == STORED else None


def _is_of_this_machine(error: ArchiveError) -> bool:
    """Whether an error came from this machine, such as a full disk, and not from the archive."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno is not None


def _is_local(storage: Storage) -> bool:
    return isinstance(storage.fs, pafs.LocalFileSystem)
