"""Vernacular names by language, from GBIF, one call a taxon, each taxon once.

Source: https://techdocs.gbif.org/en/openapi/v1/species, "Vernacular names", which knows the keys of GBIF's backbone.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from aitax_ray.errors import GbifError
from aitax_ray.gbif.answer import parts, told
from aitax_ray.gbif.client import Client
from aitax_ray.progress import progress
from aitax_ray.storage import Storage

log = logging.getLogger(__name__)

CACHE = "archive/vernacular_names.json"
SAVE_EVERY = 200  # taxa
LIMIT = 500  # names in an answer
Names = dict[str, str]  # language (ISO 639-3) to name


def vernacular_names(client: Client, gbif_url: str, keys: Sequence[str], storage: Storage) -> dict[str, Names]:
    """The names of each taxon. What an earlier run learnt is not asked for again.

    Where GBIF does not answer, names are missing and a warning says so: a model needs none.
    """
    known: dict[str, Names] = storage.read_json(CACHE) if storage.exists(CACHE) else {}
    missing = [key for key in keys if key not in known]
    if missing:
        try:
            with progress("vernacular names", len(missing), "species") as advance:
                for number, key in enumerate(missing, 1):
                    known[key] = ask(client, gbif_url, key)
                    if number % SAVE_EVERY == 0:
                        storage.write_json(CACHE, known)
                    advance(1)
        except GbifError as error:
            log.warning(
                "going on without all vernacular names, --vernacular-names with the same command asks again: %s", error
            )
        finally:
            storage.write_json(CACHE, known)
    return {key: known[key] for key in keys if key in known}


def ask(client: Client, gbif_url: str, key: str) -> Names:
    """The names of one taxon, {} when GBIF knows no such taxon. Raises GbifError."""
    url = f"{gbif_url.rstrip('/')}/v1/species/{quote(key, safe='')}/vernacularNames?limit={LIMIT}"
    status, body = client.json(url)
    if status in (400, 404):
        return {}
    if status != 200 or not isinstance(body, dict):
        raise GbifError(f"GBIF answers {told(status, body)} to the question for the vernacular names of {key}")
    return choose(parts(body, "results"))


def choose(rows: Iterable[dict[str, Any]]) -> Names:
    """A name for each language: the preferred one, else the one that most sources give, else the first in order."""
    votes: dict[str, Counter[str]] = {}
    for row in rows:
        language, name = str(row.get("language") or ""), " ".join(str(row.get("vernacularName") or "").split())
        if language and name:
            votes.setdefault(language, Counter())[name] += 1_000_000 if row.get("preferred") else 1
    return {language: min(counts, key=lambda name: (-counts[name], name)) for language, counts in sorted(votes.items())}
