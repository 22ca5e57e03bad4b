"""Bring the archive that was asked for to local disk, and keep what is known of its origin in archive/query.json."""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha1
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pyarrow.fs as pafs

from aitax_ray.errors import GbifError
from aitax_ray.gbif import api, unpack
from aitax_ray.gbif.archive import Citation
from aitax_ray.gbif.client import Client
from aitax_ray.gbif.fetch import fetch
from aitax_ray.storage import Storage
from aitax_ray.workspace import ARCHIVE, QUERY

log = logging.getLogger(__name__)

STORED = f"{ARCHIVE}/archive.zip"  # so called even where a URL gave a tar: what it is shows in its first bytes


@dataclass(frozen=True)
class Query:
    """Where the data come from: what a publication that uses them has to tell. "" and 0 where it is not known."""

    source: str  # the DOI, key, path or URL that was asked for
    doi: str = ""
    download_key: str = ""
    checklist_key: str = ""
    predicate: dict[str, Any] | None = None
    license: str = ""
    created: str = ""  # ISO 8601
    total_records: int = 0
    citation: str = ""
    dataset_citations: tuple[str, ...] = ()
    archive: str = ""  # path under the root, or the local path where it was left
    sha256: str = ""

    def completed(self, told: Citation) -> "Query":
        """With what the archive tells of itself, where GBIF did not."""
        known = asdict(self) | {
            "doi": self.doi or told.doi,
            "download_key": self.download_key or told.download_key,
            "created": self.created or told.date,
            "dataset_citations": told.datasets,
        }
        return Query(**known | {"citation": cite(known["doi"], known["created"]) or "\n".join(told.datasets)})


def cite(doi: str, created: str) -> str:
    """The citation of a download as GBIF words it, "" without a DOI."""
    try:
        day = datetime.fromisoformat(created)
        date = f" ({day.day} {day:%B %Y})"
    except ValueError:
        date = ""
    return f"GBIF.org{date} GBIF Occurrence Download https://doi.org/{doi}" if doi else ""


@contextlib.contextmanager
def from_gbif(
    storage: Storage, client: Client, gbif_url: str, name: str, wait_s: float
) -> Iterator[tuple[Path, Query]]:
    """The archive of the download with this DOI or key, and what GBIF tells of it. Raises GbifError."""

    def ask() -> tuple[str, int, Query]:
        record = api.resolve(client, gbif_url, name, wait_s)
        if not record.download_link:
            raise GbifError(f"GBIF gives no link to the file of download {record.key} ({record.status}): try later")
        query = Query(
            source=name,
            doi=record.doi,
            download_key=record.key,
            checklist_key=record.checklist_key,
            predicate=record.predicate,
            license=record.license,
            created=record.created,
            total_records=record.total_records,
        )
        log.info(
            "download %s has %s occurrences, %s bytes", record.key, f"{record.total_records:,}", f"{record.size:,}"
        )
        return record.download_link, record.size, query

    with _stored(storage, client, name, ask) as found:
        yield found


@contextlib.contextmanager
def from_url(storage: Storage, client: Client, url: str) -> Iterator[tuple[Path, Query]]:
    """The archive at a URL: http(s), file, or any other that Storage opens. Raises GbifError, StorageError."""
    if url.lower().startswith(("http://", "https://")):
        with _stored(storage, client, url, lambda: (url, 0, Query(source=url))) as found:
            yield found
        return
    parent, name = url.rsplit("/", 1)
    with tempfile.TemporaryDirectory(prefix="aitax-fetch-") as folder:
        path = Storage(parent).fetch(name, Path(folder)) / name
        yield path, Query(source=url, archive=url, sha256=unpack.digest(path))


def local_path(archive: str) -> Path | None:
    """The local path that --archive means, None when it is a URL of another host."""
    if archive.lower().startswith("file://"):
        return Path(url2pathname(urlsplit(archive).path))
    return None if "://" in archive else Path(archive).expanduser()


@contextlib.contextmanager
def _stored(
    storage: Storage, client: Client, source: str, ask: Callable[[], tuple[str, int, Query]]
) -> Iterator[tuple[Path, Query]]:
    """The archive under the root: the one that is there, when it came from `source` and is unharmed, else a new one."""
    # Beside its final place where that is on a disk, so that a later run goes on with what an earlier one left.
    local = isinstance(storage.fs, pafs.LocalFileSystem)
    with contextlib.ExitStack() as stack:
        folder = (
            Path(storage.full(ARCHIVE))
            if local
            else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aitax-fetch-")))
        )
        path = folder / "archive.zip"
        earlier = _earlier(storage, source)
        if earlier is not None:
            if not local:
                storage.fetch(STORED, folder)
            if unpack.digest(path) == earlier.sha256:
                log.info("%s is under %s already", source, storage.root)
                yield path, earlier
                return
        storage.delete(QUERY)
        storage.delete(STORED)
        link, size, query = ask()
        aside = folder / f".{sha1(link.encode(), usedforsecurity=False).hexdigest()[:16]}"
        for other in folder.glob(".*.part"):
            if other.name != f"{aside.name}.part":
                other.unlink()
        fetch(client, link, aside, size=size)
        aside.replace(path)
        if not local:
            storage.upload(folder, ARCHIVE)
        query = Query(**asdict(query) | {"archive": STORED, "sha256": unpack.digest(path)})
        storage.write_json(QUERY, asdict(query))
        yield path, query


def _earlier(storage: Storage, source: str) -> Query | None:
    """What query.json tells of an archive that an earlier run fetched from the same source."""
    if not storage.exists(QUERY) or not storage.exists(STORED):
        return None
    known = storage.read_json(QUERY)
    fields = Query.__dataclass_fields__
    query = Query(**{name: value for name, value in known.items() if name in fields})
    return query if query.source == source and query.archive == STORED else None
