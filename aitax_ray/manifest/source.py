"""Bring the archive that was asked for to local disk, and keep what is known of its origin in archive/query.json."""

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
from aitax_ray.errors import GbifError, SettingsError
from aitax_ray.gbif import api
from aitax_ray.gbif.account import find_account
from aitax_ray.gbif.account import how as account_how
from aitax_ray.gbif.client import Client
from aitax_ray.gbif.crawl import crawl
from aitax_ray.gbif.journal import digest
from aitax_ray.gbif.request import photographs_of, request_once, requested
from aitax_ray.manifest.origin import Origin, cite_search
from aitax_ray.manifest.stored import Link, is_stored, open_stored
from aitax_ray.storage import Storage
from aitax_ray.web import hide_secrets
from aitax_ray.workspace import ARCHIVE

log = logging.getLogger(__name__)

SEARCH = f"{ARCHIVE}/search"


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
) -> Iterator[tuple[Path, Origin]]:
    """The archive of the download with this DOI or key, and what GBIF tells of it.

    With `request_again` one whose file was erased is asked for anew, with the user's account. Raises GbifError, and
    SettingsError when its keys are of another `checklist` than the one named.
    """

    def again(record: api.DownloadRecord) -> str:
        check_checklist(checklist, record.key, record.checklist_key)
        named = "" if record.checklist_key == api.BACKBONE else record.checklist_key
        return request_once(storage, client, gbif_url, record.predicate or {}, named)

    def find_link() -> Link:
        record = api.resolve(client, gbif_url, name, wait_s, again if request_again else None)
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
def from_species(
    storage: Storage, client: Client, gbif_url: str, wanted: Wanted, wait_s: float
) -> Iterator[tuple[Path, Origin]]:
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
    plan = crawl(client, gbif_url, wanted.keys, wanted.datasets, wanted.checklist, storage, folder)
    origin = Origin(
        source="search",
        checklist_key=wanted.checklist or api.BACKBONE,
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
def from_url(storage: Storage, client: Client, url: str) -> Iterator[tuple[Path, Origin]]:
    """The archive at a URL: http(s), file, or any other that Storage opens. Raises GbifError, StorageError."""
    if url.lower().startswith(("http://", "https://")):
        link = Link(url, 0, Origin(source=hide_secrets(url)))
        with open_stored(storage, client, url, lambda: link) as found:
            yield found
        return
    parent, name = url.rsplit("/", 1)
    with tempfile.TemporaryDirectory(prefix="aitax-fetch-") as folder:
        Storage(parent).fetch(name, Path(folder))
        path = Path(folder, name) if Path(folder, name).is_file() else Path(folder)  # which it was unpacked to
        yield path, Origin(source=hide_secrets(url), archive=hide_secrets(url), sha256=unpack.digest(path))


def local_path(archive: str) -> Path | None:
    """The local path that --archive means, None when it is a URL of another host."""
    if archive.lower().startswith("file://"):
        return Path(url2pathname(urlsplit(archive).path))
    return None if "://" in archive else Path(archive).expanduser()


def check_checklist(wanted: str, download_key: str, checklist: str) -> None:
    """Raise SettingsError when a download has keys of another checklist than the one `wanted`, "" for any."""
    if wanted and wanted != checklist:
        raise SettingsError(
            f"--checklist is {wanted}, but download {download_key} has keys of {checklist}: leave it out, or request a "
            "download with that checklist"
        )
