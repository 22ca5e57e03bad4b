"""Read lists of names and keys, and match names with the taxa of a checklist at GBIF.

Source: https://techdocs.gbif.org/en/openapi/v1/species, "Searching names" (v2).
"""

import json
import logging
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aitax_ray.errors import GbifError, SettingsError
from aitax_ray.gbif.answer import describe, read_object, read_objects
from aitax_ray.gbif.client import Client
from aitax_ray.gbif.journal import Journal, digest
from aitax_ray.progress import progress
from aitax_ray.storage import Storage
from aitax_ray.workspace import ARCHIVE

log = logging.getLogger(__name__)

BATCH = 300  # names in a request; GBIF takes up to 1,000
KEY = re.compile(r"[A-Za-z0-9-]+")
MATCHES = f"{ARCHIVE}/matches"  # folder of the answers, until the stage is complete
NO_LISTS = (404, 405, 415, 501)  # statuses of an older service that takes no lists


@dataclass
class Matches:
    """The key of each name that GBIF knows exactly, and GBIF's answer to each other name."""

    keys: dict[str, str] = field(default_factory=dict)
    unmatched: list[dict[str, Any]] = field(default_factory=list)


def read_lines(path: Path, flag: str) -> list[str]:
    """The entries of a file, one per line or in a JSON array; each once, in order, in NFC. Raises SettingsError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        entries = json.loads(text) if text.lstrip().startswith("[") else text.splitlines()
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{flag}: {path} cannot be read ({error})") from error
    for entry in entries:
        if isinstance(entry, bool) or not isinstance(entry, str | int):
            raise SettingsError(f"{flag}: {str(entry)[:50]} in {path} is neither a text nor a whole number")
    found = [" ".join(unicodedata.normalize("NFC", str(entry)).split()) for entry in entries]
    found = list(dict.fromkeys(entry for entry in found if entry))
    if not found:
        raise SettingsError(f"{flag}: {path} is empty; it must have one entry per line, or be a JSON array")
    return found


def read_keys(path: Path, flag: str) -> list[str]:
    """Read the keys in a file. Raises SettingsError when an entry cannot be a key."""
    # Table programs write "5352251.0" in a column with gaps.
    keys = list(dict.fromkeys(re.sub(r"^(\d+)\.0+$", r"\1", key) for key in read_lines(path, flag)))
    for key in keys:
        if not KEY.fullmatch(key):
            raise SettingsError(f"{flag}: {key!r} in {path} is no key of GBIF; for names of species use --names")
    return keys


def match_names(
    client: Client, gbif_url: str, names: Sequence[str], checklist: str, storage: Storage | None = None
) -> Matches:
    """Match names at the rank of species. Exact matches count, synonyms as the accepted species.

    Answers are kept in `storage` (None keeps none) until `forget_matches`. Raises GbifError.
    """
    matches = Matches()
    with Journal(storage, f"{MATCHES}/{digest([gbif_url, checklist])}") as journal:
        missing = [name for name in names if name not in journal.answers]
        with progress("matching names", len(missing), "names") as advance:
            for name, answer in _ask(client, gbif_url, missing, checklist):
                key = read_species_key(answer)
                journal.add(name, {"key": key} if key else {"key": "", "answer": answer})
                advance(1)
        for name in names:
            match = journal.answers[name]
            if match["key"]:
                matches.keys[name] = match["key"]
            else:
                matches.unmatched.append({"name": name, "answer": match["answer"]})
    log.info("%s of %s names are known to GBIF", f"{len(matches.keys):,}", f"{len(names):,}")
    return matches


def match_lineages(client: Client, gbif_url: str, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Find the higher taxa of species by their names: name -> rank (genus, family, ...) -> name. Raises GbifError.

    Names that GBIF does not know exactly are left out.
    """
    lineages = {}
    with progress("matching names", len(names), "names") as advance:
        for name, answer in _ask(client, gbif_url, names, ""):
            if read_species_key(answer):
                taxa = read_objects(answer, "classification")
                lineages[name] = {str(taxon.get("rank")).lower(): str(taxon.get("name") or "") for taxon in taxa}
            advance(1)
    return lineages


def forget_matches(storage: Storage) -> None:
    """Delete the answers that `match_names` kept: a later run asks anew."""
    storage.delete(MATCHES)


def read_species_key(answer: Any) -> str:
    """Read the key of the accepted species from an answer of /v2/species/match; "" unless it is an exact match.

    Raises GbifError when it is no such answer.
    """
    if not isinstance(answer, dict):
        raise GbifError(f"GBIF answers {str(answer)[:50]!r} to a name: check --gbif-url, or try later")
    usage = read_object(answer, "usage")
    if read_object(answer, "diagnostics").get("matchType") != "EXACT" or usage.get("rank") != "SPECIES":
        return ""
    accepted = read_object(answer, "acceptedUsage") or ({} if answer.get("synonym") else usage)
    if accepted.get("rank") != "SPECIES":
        # The name is a synonym of a subspecies, for example: take the species of that.
        accepted = next(
            (taxon for taxon in read_objects(answer, "classification") if taxon.get("rank") == "SPECIES"), {}
        )
    key = str(accepted.get("key") or "")
    return key if KEY.fullmatch(key) else ""


def _ask(client: Client, gbif_url: str, names: Sequence[str], checklist: str) -> Iterator[tuple[str, Any]]:
    url = f"{gbif_url.rstrip('/')}/v2/species/match"
    asked = {"checklistKey": checklist} if checklist else {}
    batched = True
    for begin in range(0, len(names), BATCH):
        some = names[begin : begin + BATCH]
        if batched:
            queries = [{"scientificName": name, "taxonRank": "SPECIES"} for name in some]
            status, body = client.json(f"{url}?{urlencode(asked)}" if asked else url, post=queries)
            if status == 200 and isinstance(body, list) and len(body) == len(some):
                yield from zip(some, body, strict=True)
                continue
            if status == 200:
                raise GbifError(f"GBIF does not give an answer for each of {len(some)} names: check --gbif-url")
            if status not in NO_LISTS:
                raise GbifError(f"GBIF answers {describe(status, body)} to a list of {len(some)} names: try later")
            batched = False
        for name in some:
            query = urlencode({"scientificName": name, "taxonRank": "SPECIES", **asked})
            status, body = client.json(f"{url}?{query}")
            if status != 200:
                raise GbifError(
                    f"GBIF answers {describe(status, body)} to the name {name!r}: check --names and --checklist"
                )
            yield name, body
