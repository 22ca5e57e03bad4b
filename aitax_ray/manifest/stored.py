"""The fetched archive under the root: fetch it, go on after a kill, use it again, delete it when it cannot be read.

archive/query.json says where the archive came from. It is written before the first byte is fetched, and again with the
sha256 of the complete archive. A kill leaves one of these states, and the next run goes on from each:

    query.json of another source, or none      ask for the archive and fetch it
    query.json without archive.zip             ask, then fetch what is missing of the part that is there
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

STORED = f"{ARCHIVE}/archive.zip"  # the name is the same where a URL gave a tar: the first bytes tell the two apart


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

    An ArchiveError that the caller raises while it reads the archive deletes the archive: the next run fetches it
    again. Trouble of this machine (a full disk) does not.
    """
    with contextlib.ExitStack() as stack:
        # On a local root the part is kept beside the archive, so that the next run goes on with it.
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
    """Tell whether the archive that came from `source` is under the root, complete and unharmed."""
    origin = _read_origin(storage, source)
    return origin is not None and origin.sha256 in ("", storage.sha256(STORED))


def _find(storage: Storage, source: str, path: Path) -> Origin | None:
    """The origin of the archive under the root, which is then at `path`; None when it has to be fetched."""
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
    storage.delete(STORED)  # first: query.json without sha256 says that an archive beside it is complete
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
    """What query.json says of an archive that was fetched from this source; None when there is no such archive."""
    if not storage.exists(QUERY) or not storage.exists(STORED):
        return None
    known = storage.read_json(QUERY)
    origin = Origin(**{name: known[name] for name in Origin.__dataclass_fields__ if name in known})
    is_same = (origin.source_digest or digest_address(origin.source)) == digest_address(source)
    return origin if is_same and origin.archive == STORED else None


def _is_of_this_machine(error: ArchiveError) -> bool:
    """Tell whether an archive was not read for a reason that lies not in it, such as a full disk."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno is not None


def _is_local(storage: Storage) -> bool:
    return isinstance(storage.fs, pafs.LocalFileSystem)
