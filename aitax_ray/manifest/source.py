"""Bring the archive that was asked for to local disk, and keep what is known of its origin in archive/query.json."""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from hashlib import sha1
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pyarrow.fs as pafs

from aitax_ray.darwin_core import unpack
from aitax_ray.errors import GbifError, SettingsError
from aitax_ray.gbif import api
from aitax_ray.gbif.account import find_account
from aitax_ray.gbif.account import how as account_how
from aitax_ray.gbif.client import Client
from aitax_ray.gbif.crawl import crawl
from aitax_ray.gbif.fetch import fetch
from aitax_ray.gbif.request import digest, photographs_of, request_once, requested
from aitax_ray.manifest.origin import Query, cite_search
from aitax_ray.storage import Storage
from aitax_ray.workspace import ARCHIVE, QUERY

log = logging.getLogger(__name__)

SEARCH = f"{ARCHIVE}/search"
STORED = f"{ARCHIVE}/archive.zip"  # so called even where a URL gave a tar: what it is shows in its first bytes


@dataclass(frozen=True)
class Wanted:
    """The taxa to look for: their keys in a checklist ("" for GBIF's default), and the datasets to take, () for all."""

    keys: tuple[str, ...]
    datasets: tuple[str, ...] = ()
    checklist: str = ""


@contextlib.contextmanager
def from_gbif(
    storage: Storage,
    client: Client,
    gbif_url: str,
    name: str,
    wait_s: float,
    *,
    request_again: bool = False,
    checklist: str = "",
) -> Iterator[tuple[Path, Query]]:
    """The archive of the download with this DOI or key, and what GBIF tells of it.

    With `request_again` one whose file was erased is asked for anew, with the user's account. Raises GbifError, and
    SettingsError when its keys are of another `checklist` than the one named.
    """

    def again(record: api.DownloadRecord) -> str:
        check_checklist(checklist, record.key, record.checklist_key)
        named = "" if record.checklist_key == api.BACKBONE else record.checklist_key
        return request_once(storage, client, gbif_url, record.predicate or {}, named)

    def ask() -> tuple[str, int, Query]:
        record = api.resolve(client, gbif_url, name, wait_s, again if request_again else None)
        if not record.download_link:
            raise GbifError(f"GBIF gives no link to the file of download {record.key} ({record.status}): try later")
        check_checklist(checklist, record.key, record.checklist_key)  # before gigabytes are fetched
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

    with _stored(storage, client, name, ask) as (path, query):
        check_checklist(checklist, query.download_key, query.checklist_key)
        yield path, query


@contextlib.contextmanager
def from_species(
    storage: Storage, client: Client, gbif_url: str, wanted: Wanted, wait_s: float
) -> Iterator[tuple[Path, Query]]:
    """The occurrences with photographs of some taxa: as a download when there is an account, else by searching.

    The download that an earlier run fetched for them is used as it is. Raises GbifError.
    """
    predicate = photographs_of(wanted.keys, wanted.datasets, wanted.checklist)
    key = requested(storage, gbif_url, predicate, wanted.checklist)
    if not key or not is_stored(storage, key):  # else GBIF, which may have erased it by now, has nothing to tell
        has_account = find_account(gbif_url) is not None
        key = request_once(storage, client, gbif_url, predicate, wanted.checklist) if has_account else ""
    if key:
        with from_gbif(storage, client, gbif_url, key, wait_s) as found:
            yield found
        return
    log.info(
        "without an account at GBIF the occurrences are searched for page by page; with one they come as a download "
        "that has a DOI: %s",
        account_how(gbif_url),
    )
    # Named after the query, so that what another one left is not taken for its part.
    folder = f"{SEARCH}/{digest([predicate, wanted.checklist])}"
    for other in {file.path.split("/")[2] for file in storage.files(SEARCH)} - {folder.rsplit("/", 1)[-1]}:
        storage.delete(f"{SEARCH}/{other}")
    found_there = crawl(client, gbif_url, wanted.keys, wanted.datasets, wanted.checklist, storage, folder)
    query = Query(
        source="search",
        checklist_key=wanted.checklist or api.BACKBONE,
        predicate=predicate,
        created=found_there.date,
        total_records=found_there.total,
        citation=cite_search(found_there.date),
        archive=folder,
        beyond_reach=found_there.beyond,
    )
    with contextlib.ExitStack() as stack:
        if isinstance(storage.fs, pafs.LocalFileSystem):
            path = Path(storage.full(folder))
        else:
            path = storage.fetch(folder, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aitax-search-"))))
        yield path, replace(query, sha256=unpack.digest(path))


@contextlib.contextmanager
def from_url(storage: Storage, client: Client, url: str) -> Iterator[tuple[Path, Query]]:
    """The archive at a URL: http(s), file, or any other that Storage opens. Raises GbifError, StorageError."""
    if url.lower().startswith(("http://", "https://")):
        with _stored(storage, client, url, lambda: (url, 0, Query(source=url))) as found:
            yield found
        return
    parent, name = url.rsplit("/", 1)
    with tempfile.TemporaryDirectory(prefix="aitax-fetch-") as folder:
        Storage(parent).fetch(name, Path(folder))
        path = Path(folder, name) if Path(folder, name).is_file() else Path(folder)  # which it was unpacked to
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
        link, size, query = ask()
        storage.delete(QUERY)
        storage.delete(STORED)
        aside = folder / f".{sha1(link.encode(), usedforsecurity=False).hexdigest()[:16]}"
        for other in folder.glob(".*.part"):
            if other.name != f"{aside.name}.part":
                other.unlink()
        fetch(client, link, aside, size=size)
        aside.replace(path)
        if not local:
            storage.upload(folder, ARCHIVE)
        query = replace(query, archive=STORED, sha256=unpack.digest(path))
        storage.write_json(QUERY, asdict(query))
        yield path, query


def is_stored(storage: Storage, source: str) -> bool:
    """Whether the archive that came from `source` is under the root, unharmed."""
    earlier = _earlier(storage, source)
    return earlier is not None and storage.sha256(STORED) == earlier.sha256


def _earlier(storage: Storage, source: str) -> Query | None:
    """What query.json tells of an archive that an earlier run fetched from the same source."""
    if not storage.exists(QUERY) or not storage.exists(STORED):
        return None
    known = storage.read_json(QUERY)
    fields = Query.__dataclass_fields__
    query = Query(**{name: value for name, value in known.items() if name in fields})
    return query if query.source == source and query.archive == STORED else None


def check_checklist(wanted: str, download_key: str, checklist: str) -> None:
    """Raise SettingsError when a download has keys of another checklist than the one `wanted`, "" for any."""
    if wanted and wanted != checklist:
        raise SettingsError(
            f"--checklist is {wanted}, but download {download_key} has keys of {checklist}: leave it out, or request a "
            "download with that checklist"
        )
