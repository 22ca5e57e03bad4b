"""Open the archive that the settings ask for: a download of GBIF, the photographs of some taxa, or a URL.

Each function gives a local path and the origin of the data.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pyarrow.fs as pafs

from aitax_ray.darwin_core import unpack
from aitax_ray.errors import ArchiveError, GbifError, SettingsError
from aitax_ray.gbif import api
from aitax_ray.gbif.account import explain_account, find_account
from aitax_ray.gbif.client import Client
from aitax_ray.gbif.crawl import crawl
from aitax_ray.gbif.fetch import MAX_BYTES
from aitax_ray.gbif.journal import digest
from aitax_ray.gbif.request import build_predicate, find_requested, request_once
from aitax_ray.manifest.origin import Origin, cite_search
from aitax_ray.manifest.stored import Link, is_stored, open_stored
from aitax_ray.storage import Storage
from aitax_ray.web import hide_secrets
from aitax_ray.workspace import ARCHIVE

log = logging.getLogger(__name__)

SEARCH = f"{ARCHIVE}/search"


@dataclass(frozen=True)
class TaxonQuery:
    """Keys of taxa in a checklist ("" for GBIF's default), and of the datasets to search, () for all."""

    keys: tuple[str, ...]
    datasets: tuple[str, ...] = ()
    checklist: str = ""


@contextlib.contextmanager
def open_download(
    storage: Storage,
    client: Client,
    gbif_url: str,
    name: str,
    wait_s: float,
    *,
    request_again: bool = False,
    checklist: str = "",
) -> Iterator[tuple[Path, Origin]]:
    """Open the download with this DOI or key.

    With `request_again` GBIF is asked to make a download anew whose file it has erased, in the name of the user. Raises
    GbifError, and SettingsError when the keys of the download belong to another checklist than `checklist`.
    """

    def make_anew(record: api.DownloadRecord) -> str:
        check_checklist(checklist, record.key, record.checklist_key)
        checklist_key = "" if record.checklist_key == api.BACKBONE else record.checklist_key
        return request_once(storage, client, gbif_url, record.predicate or {}, checklist_key)

    def find_link() -> Link:
        record = api.resolve(client, gbif_url, name, wait_s, make_anew if request_again else None)
        if not record.download_link:
            raise GbifError(f"GBIF gives no link to the file of download {record.key} ({record.status}): try later")
        check_checklist(checklist, record.key, record.checklist_key)  # before gigabytes are fetched
        origin = Origin(
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
        return Link(record.download_link, record.size, origin)

    with open_stored(storage, client, name, find_link) as (path, origin):
        check_checklist(checklist, origin.download_key, origin.checklist_key)
        yield path, origin


@contextlib.contextmanager
def open_taxa(
    storage: Storage, client: Client, gbif_url: str, query: TaxonQuery, wait_s: float
) -> Iterator[tuple[Path, Origin]]:
    """Open the occurrences with photographs of some taxa: a download when there is an account, else a search.

    A download that an earlier run fetched for them is used again, with or without an account. Raises GbifError.
    """
    predicate = build_predicate(query.keys, query.datasets, query.checklist)
    key = find_requested(storage, gbif_url, predicate, query.checklist)
    if not key or not is_stored(storage, key):  # GBIF may have erased it by now
        has_account = find_account(gbif_url) is not None
        key = request_once(storage, client, gbif_url, predicate, query.checklist) if has_account else ""
    if key:
        with open_download(storage, client, gbif_url, key, wait_s) as found:
            yield found
        return
    log.info(
        "without an account at GBIF the occurrences are searched for page by page; with one they come as a download "
        "that has a DOI: %s",
        explain_account(gbif_url),
    )
    # The folder is named after the query, so that the files of another query are not taken for its own.
    folder = f"{SEARCH}/{digest([predicate, query.checklist])}"
    for other in {file.path.split("/")[2] for file in storage.files(SEARCH)} - {folder.rsplit("/", 1)[-1]}:
        storage.delete(f"{SEARCH}/{other}")
    plan = crawl(client, gbif_url, query.keys, query.datasets, query.checklist, storage, folder)
    origin = Origin(
        source="search",
        checklist_key=query.checklist or api.BACKBONE,
        predicate=predicate,
        created=plan.date,
        total_records=plan.total,
        citation=cite_search(plan.date),
        archive=folder,
        beyond_reach=plan.unreachable,
    )
    with contextlib.ExitStack() as stack:
        if isinstance(storage.fs, pafs.LocalFileSystem):
            path = Path(storage.full(folder))
        else:
            path = storage.fetch(folder, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aitax-search-"))))
        yield path, replace(origin, sha256=unpack.digest(path))


@contextlib.contextmanager
def open_url(storage: Storage, client: Client, url: str) -> Iterator[tuple[Path, Origin]]:
    """Open the archive at a URL that httpx or Storage opens. Raises GbifError, StorageError, ArchiveError."""
    if url.lower().startswith(("http://", "https://")):
        link = Link(url, 0, Origin(source=hide_secrets(url)))
        with open_stored(storage, client, url, lambda: link) as found:
            yield found
        return
    parent, name = url.rsplit("/", 1)
    remote, shown = Storage(parent), hide_secrets(url)
    size = sum(file.size for file in remote.files(name)) or remote.fs.get_file_info(remote.full(name)).size or 0
    if size > MAX_BYTES:
        raise ArchiveError(f"{shown} is of {size:,} bytes, more than the {MAX_BYTES:,} allowed: narrow the query")
    with tempfile.TemporaryDirectory(prefix="aitax-fetch-") as folder:
        remote.fetch(name, Path(folder))
        path = Path(folder, name) if Path(folder, name).is_file() else Path(folder)  # it may be unpacked
        yield path, Origin(source=shown, archive=shown, sha256=unpack.digest(path))


def find_local_path(archive: str) -> Path | None:
    """Return the local path that --archive means; None when it is a URL of another host."""
    if archive.lower().startswith("file://"):
        return Path(url2pathname(urlsplit(archive).path))
    return None if "://" in archive else Path(archive).expanduser()


def check_checklist(expected: str, download_key: str, checklist: str) -> None:
    """Raise SettingsError when a download has keys of another checklist than the `expected` one ("" for any)."""
    if expected and expected != checklist:
        raise SettingsError(
            f"--checklist is {expected}, but download {download_key} has keys of {checklist}: leave it out, or request "
            "a download with that checklist"
        )
