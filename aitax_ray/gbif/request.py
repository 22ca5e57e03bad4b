"""Ask GBIF to make a download, which gives the data a DOI. This needs an account.

Source: https://techdocs.gbif.org/en/data-use/api-downloads.
"""

import logging
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import httpx

from aitax_ray.errors import GbifError, SettingsError
from aitax_ray.gbif.account import Account, explain_account, find_account
from aitax_ray.gbif.answer import describe, read_objects
from aitax_ray.gbif.api import ENDED, look_up
from aitax_ray.gbif.client import Client, read
from aitax_ray.gbif.crawl import Query
from aitax_ray.gbif.journal import digest
from aitax_ray.storage import Storage
from aitax_ray.workspace import ARCHIVE

log = logging.getLogger(__name__)

REQUESTED = f"{ARCHIVE}/requested.json"  # digest of each request to the key of its download: none is sent twice

MAX_VALUES = 101_000  # in all predicates of a request together
TOO_MANY = (420, 429)  # GBIF makes up to three downloads at a time for a user
KEY = re.compile(r"[A-Za-z0-9-]+")
MAX_QUERY = 6_000  # characters of a search; servers refuse URLs of more than about 8,000
# The terms of predicates that the search has too, with the same values, under the same names in camel case.
# fmt: off
SEARCHED = frozenset({
    "TAXON_KEY", "KINGDOM_KEY", "PHYLUM_KEY", "CLASS_KEY", "ORDER_KEY", "FAMILY_KEY", "GENUS_KEY", "SPECIES_KEY",
    "DATASET_KEY", "MEDIA_TYPE", "COUNTRY", "CONTINENT", "YEAR", "MONTH", "LICENSE", "BASIS_OF_RECORD",
    "OCCURRENCE_STATUS", "HAS_COORDINATE", "HAS_GEOSPATIAL_ISSUE", "PUBLISHING_COUNTRY",
})
# fmt: on
CHECK = "look on https://www.gbif.org/user/download whether it took it, and give its key as --download-key"


def build_predicate(keys: Sequence[str], datasets: Sequence[str], checklist: str) -> dict[str, Any]:
    """Build the predicate for occurrences with a photograph of these taxa and all below them.

    Without `datasets` those of all datasets are meant. Raises SettingsError when there are more keys than GBIF takes.
    """
    if len(keys) + len(datasets) > MAX_VALUES:
        raise SettingsError(f"GBIF takes {MAX_VALUES:,} keys in one request, these are {len(keys) + len(datasets):,}")
    taxa: dict[str, Any] = {"type": "in", "key": "TAXON_KEY", "values": list(keys)}
    parts = [taxa | ({"checklistKey": checklist} if checklist else {})]
    if datasets:
        parts.append({"type": "in", "key": "DATASET_KEY", "values": list(datasets)})
    parts.append({"type": "equals", "key": "MEDIA_TYPE", "value": "StillImage"})
    return {"type": "and", "predicates": parts}


def build_search(predicate: dict[str, Any], datasets: Sequence[str]) -> Query | None:
    """Build the query of GBIF's search for the photographs that a predicate describes, from these datasets or all.

    None when the predicate is more than equalities joined by "and", or too long for a URL.
    """
    found: dict[str, list[str]] = {}
    queue = [predicate]
    while queue:
        part = queue.pop()
        if part.get("type") == "and":
            queue += read_objects(part, "predicates")
            continue
        values = {"equals": [part.get("value")], "in": part.get("values")}.get(str(part.get("type")))
        first, *others = str(part.get("key")).lower().split("_")
        name = first + "".join(other.capitalize() for other in others)
        if str(part.get("key")) not in SEARCHED or not isinstance(values, list) or not values or name in found:
            return None
        found[name] = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
    if "StillImage" not in found.setdefault("mediaType", ["StillImage"]):
        return None
    found["mediaType"] = ["StillImage"]
    if datasets:
        found["datasetKey"] = [key for key in found.get("datasetKey", datasets) if key in datasets]
    fits = all(found.values()) and len(urlencode(found, doseq=True)) <= MAX_QUERY
    return dict(found) if fits else None


def find_requested(storage: Storage, gbif_url: str, predicate: dict[str, Any], checklist: str) -> str:
    """Find the key of the download that an earlier run asked for with this request; "" when none did."""
    return _read_requested(storage).get(digest([gbif_url, predicate, checklist]), "")


def request_once(storage: Storage, client: Client, gbif_url: str, predicate: dict[str, Any], checklist: str) -> str:
    """Return the key of the download for this request; ask for it, in the name of the user, unless it is there.

    A download that an earlier run asked for is taken unless it failed or was erased. Raises GbifError.
    """
    account = find_account(gbif_url)
    if account is None:
        raise GbifError(f"asking GBIF for a download takes your account there: {explain_account(gbif_url)}")
    keys = _read_requested(storage)
    name = digest([gbif_url, predicate, checklist])
    if name not in keys or look_up(client, gbif_url, keys[name]).status in ENDED:
        keys[name] = request_download(client, gbif_url, account, predicate, checklist)
        storage.write_json(REQUESTED, keys)
    return keys[name]


def request_download(client: Client, gbif_url: str, account: Account, predicate: dict[str, Any], checklist: str) -> str:
    """Ask for a Darwin Core Archive of the occurrences that `predicate` describes; return its key. Raises GbifError."""
    body: dict[str, Any] = {
        "creator": account.user,
        "format": "DWCA",
        "predicate": predicate,
        "sendNotification": False,
    }
    if account.email:
        body["notificationAddresses"] = [account.email]
    if checklist:
        body["checklistKey"] = checklist
    url = f"{gbif_url.rstrip('/')}/v1/occurrence/download/request"
    response = client.open(url, post=body, auth=(account.user, account.password), repeatable=False)
    try:
        status, text = response.status_code, read(response).decode(errors="replace").strip().strip('"')
    except httpx.RequestError as error:
        raise GbifError(f"GBIF's answer to the request for a download broke off ({error}): {CHECK}") from error
    finally:
        response.close()
    if status in (401, 403):
        raise GbifError(f"GBIF does not accept the account of {account.user}: {explain_account(gbif_url)}")
    if status in TOO_MANY:
        raise GbifError("GBIF makes no further download for you now: wait until those you asked for are ready")
    if status not in (200, 201) or not KEY.fullmatch(text):
        answer = f"GBIF answers {describe(status, text)} to the request for a download"
        raise GbifError(f"{answer}: {CHECK}" if status < 300 or status >= 500 else f"{answer}: check the query")
    log.info("asked GBIF for download %s: https://www.gbif.org/occurrence/download/%s", text, text)
    return text


def _read_requested(storage: Storage) -> dict[str, str]:
    return dict(storage.read_json(REQUESTED)) if storage.exists(REQUESTED) else {}
