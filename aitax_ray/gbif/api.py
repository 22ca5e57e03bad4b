"""Find a GBIF download by its DOI or key, and wait until GBIF has prepared it.

Source: https://techdocs.gbif.org/en/openapi/v1/occurrence, "Occurrence downloads".
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from aitax_ray import schemas
from aitax_ray.errors import ArchiveError, GbifError, SettingsError
from aitax_ray.gbif.answer import describe, read_count, read_object, read_text
from aitax_ray.gbif.client import Client

log = logging.getLogger(__name__)

POLL_S = 30.0
BACKBONE = schemas.BACKBONE  # the checklist that the API uses by default
WAITING = frozenset({"PREPARING", "RUNNING"})
SUCCEEDED = "SUCCEEDED"
ENDED = {
    "FILE_ERASED": "its file was erased, as GBIF does some six months after a download was made",
    "FAILED": "it failed at GBIF",
    "KILLED": "GBIF stopped it",
    "CANCELLED": "its owner cancelled it",
    "SUSPENDED": "GBIF suspended it",
}


@dataclass(frozen=True)
class DownloadRecord:
    """GBIF's record of a download. Texts that GBIF leaves out are "", numbers 0; `size` is in bytes."""

    key: str
    doi: str
    status: str
    download_link: str
    format: str
    checklist_key: str
    predicate: dict[str, Any] | None
    size: int
    total_records: int
    created: str
    license: str


def parse_doi(text: str) -> str:
    """Reduce any spelling of a DOI (`doi:10...`, `https://doi.org/10...`) to `10.prefix/suffix`.

    Raises SettingsError when the text is no DOI.
    """
    found = re.fullmatch(
        r"(?:doi:\s*|(?:https?://)?(?:www\.|dx\.)?doi\.org/)?(10\.\d{4,9}/[^\s?#]+)", text.strip(), re.I
    )
    if not found:
        raise SettingsError(f"--doi: {text!r} is no DOI; a download of GBIF has one such as 10.15468/dl.4gbcs6")
    return found[1].rstrip("/.").lower()


def parse_key(text: str) -> str:
    """Reduce a download key, or the address of the download's page, to the key. Raises SettingsError."""
    key = text.strip().rstrip("/").rsplit("/", 1)[-1].removesuffix(".zip")
    if not re.fullmatch(r"[A-Za-z0-9-]+", key):
        raise SettingsError(f"--download-key: {text!r} is no key such as 0022697-200613084148143")
    return key


def resolve(
    client: Client,
    gbif_url: str,
    doi_or_key: str,
    wait_s: float,
    request_again: Callable[[DownloadRecord], str] | None = None,
) -> DownloadRecord:
    """Ask GBIF for a download, and wait up to `wait_s` seconds while GBIF prepares it.

    `doi_or_key` is as `parse_doi` or `parse_key` returns it. `request_again` is called at most once, for a download
    whose file was erased; it returns the key of a new download to take instead.
    Raises GbifError when there is no such download, when it has no file (any more), or when it is not ready in time;
    ArchiveError when its format holds no photographs.
    """
    waited, was_requested = 0.0, False
    while True:
        record = look_up(client, gbif_url, doi_or_key)
        if record.format not in ("", "DWCA"):
            raise ArchiveError(
                f"download {record.key} is of format {record.format}, which holds no photographs: "
                "request it again on gbif.org as Darwin Core Archive"
            )
        if record.status == "FILE_ERASED":
            if record.predicate is None:
                raise GbifError(
                    f"download {record.key} cannot be fetched: {ENDED[record.status]}. GBIF did not keep its query: "
                    "run the query on gbif.org, and use the new DOI"
                )
            if was_requested:
                raise GbifError(f"GBIF erased the file of the new download {record.key} as well: write to GBIF")
            if request_again is None:
                raise GbifError(
                    f"download {record.key} cannot be fetched: {ENDED[record.status]}. Add --request-again, and GBIF "
                    "makes it again under a new DOI"
                )
            doi_or_key, was_requested = request_again(record), True
            continue
        if record.status in ENDED:
            raise GbifError(
                f"download {record.key} cannot be fetched: {ENDED[record.status]}. Open "
                f"https://www.gbif.org/occurrence/download/{record.key}, run its query again, and use the new DOI"
            )
        if record.status == SUCCEEDED:
            return record
        if record.status not in WAITING:
            raise GbifError(f"download {record.key} is {record.status} at GBIF, so it cannot be fetched: try later")
        if waited >= wait_s:
            raise GbifError(
                f"download {record.key} is still {record.status} at GBIF after {waited:,.0f} s: "
                "run the same command later, or raise --wait-s"
            )
        pause = min(POLL_S, wait_s - waited)
        log.info("download %s is %s at GBIF; looking again in %.0f s", record.key, record.status, pause)
        client.sleep(pause)  # the client's, which tests replace
        waited += pause


def look_up(client: Client, gbif_url: str, doi_or_key: str) -> DownloadRecord:
    """Ask GBIF once for the download with this DOI or key. Raises GbifError."""
    status, body = client.json(f"{gbif_url.rstrip('/')}/v1/occurrence/download/{quote(doi_or_key)}")
    if status in (400, 404):
        is_doi = "/" in doi_or_key
        hint = "the DOI of a dataset or of an occurrence cannot be used" if is_doi else "check the key"
        raise GbifError(
            f"GBIF knows no download {doi_or_key}: it takes the DOI or key of an occurrence download; {hint}"
        )
    if status != 200 or not isinstance(body, dict):
        raise GbifError(
            f"GBIF answers {describe(status, body)} when asked for {doi_or_key}: check --gbif-url, or try later"
        )
    if not read_text(body, "key") or not read_text(body, "status"):
        raise GbifError(f"GBIF gives no key and status of download {doi_or_key}: check --gbif-url, or try later")
    request = read_object(body, "request")
    return DownloadRecord(
        key=read_text(body, "key"),
        doi=read_text(body, "doi"),
        status=read_text(body, "status"),
        download_link=read_text(body, "downloadLink"),
        format=read_text(request, "format"),
        checklist_key=_find_checklist(request) or BACKBONE,
        predicate=read_object(request, "predicate") or None,
        size=read_count(body, "size"),
        total_records=read_count(body, "totalRecords"),
        created=read_text(body, "created"),
        license=read_text(body, "license"),
    )


def _find_checklist(request: Any) -> str:
    """Find the checklist that a request names, at its top or in one of its predicates, which may be nested."""
    queue = [request]
    while queue:
        value = queue.pop(0)
        if isinstance(value, dict):
            if key := read_text(value, "checklistKey"):
                return key
            queue += value.values()
        elif isinstance(value, list):
            queue += value
    return ""
