"""Ask GBIF for vernacular names by language, one call per taxon, each taxon once.

Source: https://techdocs.gbif.org/en/openapi/v1/species, "Vernacular names", which knows the keys of GBIF's backbone.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from aitax_ray.errors import GbifError
from aitax_ray.gbif.answer import describe, read_objects
from aitax_ray.gbif.client import Client
from aitax_ray.gbif.journal import Journal
from aitax_ray.progress import progress
from aitax_ray.storage import Storage

log = logging.getLogger(__name__)

CACHE = "archive/vernacular_names.json"
ANSWERS = "archive/vernacular_names"  # folder of the answers of a run that has not come to its end
LIMIT = 500  # names in an answer
Names = dict[str, str]  # language (ISO 639-3) to name


def ask_vernacular_names(client: Client, gbif_url: str, keys: Sequence[str], storage: Storage) -> dict[str, Names]:
    """Ask for the names of each taxon that no earlier run has asked for.

    Where GBIF does not answer, names are missing and a warning says so: a model needs none.
    """
    known: dict[str, Names] = storage.read_json(CACHE) if storage.exists(CACHE) else {}
    with Journal(storage, ANSWERS) as journal:
        missing = [key for key in keys if key not in known and key not in journal.answers]
        try:
            if missing:
                with progress("vernacular names", len(missing), "species") as advance:
                    for key in missing:
                        journal.add(key, ask(client, gbif_url, key))
                        advance(1)
        except GbifError as error:
            log.warning(
                "going on without all vernacular names, --vernacular-names with the same command asks again: %s", error
            )
        if journal.answers:
            known |= journal.answers
            storage.write_json(CACHE, known)
        journal.delete()
    return {key: known[key] for key in keys if key in known}


def ask(client: Client, gbif_url: str, key: str) -> Names:
    """Ask for the names of one taxon; {} when GBIF does not know it. Raises GbifError."""
    url = f"{gbif_url.rstrip('/')}/v1/species/{quote(key, safe='')}/vernacularNames?limit={LIMIT}"
    status, body = client.json(url)
    if status in (400, 404):
        return {}
    if status != 200 or not isinstance(body, dict):
        raise GbifError(f"GBIF answers {describe(status, body)} to the request for the vernacular names of {key}")
    return choose(read_objects(body, "results"))


def choose(rows: Iterable[dict[str, Any]]) -> Names:
    """Choose a name for each language: the preferred one, else that of most sources, else the first in order."""
    votes: dict[str, Counter[str]] = {}
    for row in rows:
        language, name = str(row.get("language") or ""), " ".join(str(row.get("vernacularName") or "").split())
        if language and name:
            votes.setdefault(language, Counter())[name] += 1_000_000 if row.get("preferred") else 1
    return {language: min(counts, key=lambda name: (-counts[name], name)) for language, counts in sorted(votes.items())}
