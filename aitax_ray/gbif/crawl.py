"""Page through GBIF's occurrence search, for those without an account, into an archive like that of a download.

GBIF's rules: one request at a time, at most 300 records a page, none behind the first 100,000 of a query, and a
download instead of crawling for more than a quarter of an hour (https://techdocs.gbif.org/en/openapi/v1/occurrence). A
query with more records is parted by year, dataset, month and country until each part has few enough. Which parts there
are is written first; each is a pair of files, written when it is whole: a run that was stopped goes on with the next.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from aitax_ray.errors import DataError, GbifError
from aitax_ray.gbif.answer import parts, text, told, whole
from aitax_ray.gbif.client import Client
from aitax_ray.gbif.searched import MEDIA_TERMS, OCCURRENCE_TERMS, line, meta_xml, occurrence_row
from aitax_ray.progress import progress
from aitax_ray.storage import Storage

log = logging.getLogger(__name__)

PAGE = 300
WALL = 100_000
LONG_CRAWL_S = 15 * 60
SECONDS_PER_REQUEST = 1.0  # a guess, for the warning
MAX_FACETS = 10_000
DATASETS = 100  # in one question: a URL has its limits
PLAN = "parts.json"
PARTS = ("year", "datasetKey", "month", "country", "basisOfRecord")

Query = dict[str, str | list[str]]  # parameters of a search; of several values each may be the one


@dataclass(frozen=True)
class Crawl:
    """What a crawl is of."""

    date: str  # ISO 8601, when GBIF was asked how much there is
    total: int  # occurrences that it told of
    beyond: int  # of them, those behind the wall in every way to part them, without a value of what parts them, or not
    # given although they were counted
    parts: tuple[tuple[Query, int], ...]


def crawl(
    client: Client,
    gbif_url: str,
    keys: Sequence[str],
    datasets: Sequence[str],
    checklist: str,
    storage: Storage,
    folder: str,
) -> Crawl:
    """Write the occurrences with photographs of these taxa into `folder` of the storage as a Darwin Core Archive.

    What an earlier run has written there stays and is not asked for again. Raises GbifError, and DataError when GBIF
    has none.
    """
    api = f"{gbif_url.rstrip('/')}/v1/occurrence/search"
    plan = _read_plan(storage, folder)
    asked = 0
    if plan is None:
        asked = len(list(queries(keys, datasets, checklist)))
        warn_if_long(asked, "counting the occurrences with photographs")
        plan = _plan(client, api, keys, datasets, checklist)
    if not plan.parts:
        raise DataError(f"GBIF has no photographs of these {len(keys):,} taxa: check the keys and --checklist")
    storage.write_json(f"{folder}/{PLAN}", asdict(plan))
    names = [hashlib.sha256(_encoded(query).encode()).hexdigest()[:16] for query, _ in plan.parts]
    there = {file.path for file in storage.files(folder)}
    whole_parts = {name for name in names if f"{folder}/multimedia-{name}.txt" in there}
    left = [size for name, (_, size) in zip(names, plan.parts, strict=True) if name not in whole_parts]
    warn_if_long(asked + sum(-(-size // PAGE) for size in left), f"paging through {sum(left):,} occurrences")
    missing = 0
    with progress("searching GBIF", plan.total, "occurrences") as advance:
        for name, (query, size) in zip(names, plan.parts, strict=True):
            if name in whole_parts:  # a line an occurrence: what an earlier run did not get is told by this one too
                given = storage.read_bytes(f"{folder}/occurrence-{name}.txt").count(b"\n")
            else:
                given = _write_part(client, api, query, size, checklist, storage, folder, name)
            missing += max(0, size - given)
            advance(size)
    storage.write_bytes(f"{folder}/meta.xml", meta_xml(names).encode())
    if missing:
        log.warning("GBIF gave %s occurrences fewer than it had counted", f"{missing:,}")
    if plan.beyond:
        log.warning("%s occurrences cannot be reached by searching: request a download instead", f"{plan.beyond:,}")
    return replace(plan, beyond=plan.beyond + missing)


def warn_if_long(num_requests: int, what: str) -> None:
    """Warn when so many requests, one at a time, take longer than GBIF wants to be searched for."""
    seconds = num_requests * SECONDS_PER_REQUEST
    if seconds > LONG_CRAWL_S:
        log.warning(
            "%s takes about %.1f h, and GBIF asks to request a download instead: "
            "give an account (GBIF_USER, GBIF_PWD), and the data get a DOI as well",
            what,
            seconds / 3600,
        )


def queries(keys: Sequence[str], datasets: Sequence[str], checklist: str) -> Iterator[Query]:
    """The questions for the photographs of these taxa, from these datasets or all."""
    for key in keys:
        query: Query = {"mediaType": "StillImage", "taxonKey": key}
        if checklist:
            query["checklistKey"] = checklist
        some = [list(datasets[i : i + DATASETS]) for i in range(0, len(datasets), DATASETS)]
        yield from ([query | {"datasetKey": these} for these in some] or [query])


def search(client: Client, api: str, query: Query, **more: str | int) -> dict[str, Any]:
    """One page of GBIF's answer: `count` and `results` are as they should be. Raises GbifError."""
    status, body = client.json(f"{api}?{_encoded(query)}&{urlencode(more)}")
    if status != 200 or not isinstance(body, dict):
        raise GbifError(
            f"GBIF answers {told(status, body)} to the search for {_encoded(query)}: check the keys and --checklist"
        )
    for result in parts(body, "results"):
        parts(result, "media")
    return body | {"count": whole(body, "count"), "results": parts(body, "results")}


def facet(client: Client, api: str, query: Query, name: str) -> dict[str, int]:
    """How many occurrences there are for each value of a term. Raises GbifError."""
    body = search(client, api, query, limit=0, facet=name, facetLimit=MAX_FACETS)
    counts = (count for found in parts(body, "facets") for count in parts(found, "counts"))
    return {text(count, "name"): whole(count, "count") for count in counts}


def _encoded(query: Query) -> str:
    return urlencode(sorted(query.items()), doseq=True)


def _read_plan(storage: Storage, folder: str) -> Crawl | None:
    if not storage.exists(f"{folder}/{PLAN}"):
        return None
    known = storage.read_json(f"{folder}/{PLAN}")
    return Crawl(**known | {"parts": tuple((query, size) for query, size in known["parts"])})


def _plan(client: Client, api: str, keys: Sequence[str], datasets: Sequence[str], checklist: str) -> Crawl:
    found: list[tuple[Query, int]] = []
    date, total = datetime.now(UTC).date().isoformat(), 0
    questions = list(queries(keys, datasets, checklist))
    with progress("counting at GBIF", len(questions), "questions") as advance:
        for query in questions:
            count = search(client, api, query, limit=0)["count"]
            total += count
            for piece, size in _parts(client, api, query, count, PARTS) if count > WALL else [(query, count)]:
                if size:
                    found.append((piece, min(size, WALL)))
            advance(1)
    return Crawl(date, total, max(0, total - sum(size for _, size in found)), tuple(found))


def _parts(client: Client, api: str, query: Query, count: int, names: Sequence[str]) -> Iterator[tuple[Query, int]]:
    """Part a query until no part has more than WALL records, first by a term that every record has a value of."""
    best: tuple[str, dict[str, int]] | None = None
    for name in names:
        if isinstance(query.get(name), str):
            continue
        values = facet(client, api, query, name)
        if len(values) > 1 and (best is None or sum(values.values()) > sum(best[1].values())):
            best = (name, values)
        if best and sum(best[1].values()) >= count:
            break
    if best is None:
        yield query, count  # more than WALL: the rest is beyond reach, and counted
        return
    name, values = best
    for value, size in sorted(values.items()):
        piece: Query = query | {name: value}
        yield from _parts(client, api, piece, size, [n for n in names if n != name]) if size > WALL else [(piece, size)]


def _write_part(
    client: Client, api: str, query: Query, size: int, checklist: str, storage: Storage, folder: str, name: str
) -> int:
    """Write the two files of a part of about `size` occurrences; gives their number.

    Raises GbifError when GBIF gives nothing and does not say that this is the end: then the part is not whole.
    """
    occurrences: list[str] = []
    media: list[str] = []
    while len(occurrences) < WALL:
        # From where the last page ended: a page may be shorter than was asked for.
        body = search(client, api, query, limit=min(PAGE, WALL - len(occurrences)), offset=len(occurrences))
        for result in body["results"]:
            row = occurrence_row(result, checklist)
            occurrences.append(line(row, OCCURRENCE_TERMS))
            media += [line({**m, "gbifID": row["gbifID"]}, MEDIA_TERMS) for m in parts(result, "media")]
        if body.get("endOfRecords"):
            break
        if not body["results"]:
            raise GbifError(
                f"GBIF gives an empty page after {len(occurrences):,} of {size:,} occurrences: run the same command "
                "later, it goes on with this part"
            )
    storage.write_bytes(f"{folder}/occurrence-{name}.txt", "".join(occurrences).encode())
    storage.write_bytes(f"{folder}/multimedia-{name}.txt", "".join(media).encode())  # last: it marks the part as whole
    return len(occurrences)
