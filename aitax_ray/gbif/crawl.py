"""Page through GBIF's occurrence search, for those without an account, into an archive like that of a download.

GBIF's rules: one request at a time, at most 300 records a page, none behind the first 100,000 of a query, and a
download instead of searching for more than a quarter of an hour (https://techdocs.gbif.org/en/openapi/v1/occurrence).
A query with more records is divided by year, dataset, month and country until each slice has few enough.

First the plan is made, which is the list of slices; each answer that it needs is kept as it comes. Then each slice is
paged through and written as a pair of files. A run that goes on after a kill asks for no answer and no slice again.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlencode

from aitax_ray.errors import DataError, GbifError
from aitax_ray.gbif.answer import describe, read_count, read_objects, read_text
from aitax_ray.gbif.client import Client
from aitax_ray.gbif.journal import Journal
from aitax_ray.gbif.searched import MEDIA_TERMS, OCCURRENCE_TERMS, make_line, make_meta_xml, make_row
from aitax_ray.progress import progress
from aitax_ray.storage import Storage

log = logging.getLogger(__name__)

PAGE = 300  # records
MAX_RECORDS = 100_000  # of a query that GBIF gives
LONG_CRAWL_S = 15 * 60
SECONDS_PER_REQUEST = 1.0  # an estimate, for the warning
MAX_FACETS = 10_000
MAX_DATASETS = 100  # in one query: the length of a URL is limited
PLAN = "plan.json"
ANSWERS = "answers"  # folder of the answers that a plan is made of, until it is complete
DIVIDERS = ("year", "datasetKey", "month", "country", "basisOfRecord")

Query = dict[str, str | list[str]]  # parameters of a search; a list says that any of its values will do


@dataclass(frozen=True)
class CrawlPlan:
    """What a crawl fetches."""

    date: str  # ISO 8601, when GBIF was asked how much there is
    total: int  # occurrences that it counted
    unreachable: int  # of them those that no slice holds, or that GBIF counted and did not give
    slices: tuple[tuple[Query, int], ...]  # each with its number of occurrences


def crawl(
    client: Client,
    gbif_url: str,
    keys: Sequence[str],
    datasets: Sequence[str],
    checklist: str,
    storage: Storage,
    folder: str,
) -> CrawlPlan:
    """Write the occurrences with photographs of these taxa into `folder` of the storage as a Darwin Core Archive.

    What an earlier run has written there stays and is not asked for again. Raises GbifError, and DataError when GBIF
    has none.
    """
    api = f"{gbif_url.rstrip('/')}/v1/occurrence/search"
    plan = _read_plan(storage, folder)
    num_asked = 0
    with Journal(storage, f"{folder}/{ANSWERS}") as journal:
        if plan is None:
            questions = [_encode(query) for query in make_queries(keys, datasets, checklist)]
            num_asked = sum(question not in journal.answers for question in questions)
            warn_if_long(num_asked, "counting the occurrences with photographs")
            plan = _make_plan(client, api, keys, datasets, checklist, journal)
            if plan.slices:
                storage.write_json(f"{folder}/{PLAN}", asdict(plan))
        journal.delete()
    if not plan.slices:
        raise DataError(f"GBIF has no photographs of these {len(keys):,} taxa: check the keys and --checklist")
    names = [hashlib.sha256(_encode(query).encode()).hexdigest()[:16] for query, _ in plan.slices]
    files = {file.path for file in storage.files(folder)}
    complete = {name for name in names if {_occurrences(folder, name), _media(folder, name)} <= files}
    missing = [size for name, (_, size) in zip(names, plan.slices, strict=True) if name not in complete]
    num_pages = sum(-(-size // PAGE) for size in missing)
    warn_if_long(num_asked + num_pages, f"paging through {sum(missing):,} occurrences")
    num_lost = 0
    with progress("searching GBIF", plan.total, "occurrences") as advance:
        for name, (query, size) in zip(names, plan.slices, strict=True):
            if name in complete:  # a line per occurrence: what an earlier run did not get counts in this one too
                found = storage.read_bytes(_occurrences(folder, name)).count(b"\n")
            else:
                found = _write_slice(client, api, query, size, checklist, storage, folder, name)
            num_lost += max(0, size - found)
            advance(size)
    storage.write_bytes(f"{folder}/meta.xml", make_meta_xml(names).encode())
    if num_lost:
        log.warning("GBIF gave %s occurrences fewer than it had counted", f"{num_lost:,}")
    if plan.unreachable:
        log.warning(
            "%s occurrences cannot be reached by searching: request a download instead", f"{plan.unreachable:,}"
        )
    return replace(plan, unreachable=plan.unreachable + num_lost)


def warn_if_long(num_requests: int, what: str) -> None:
    """Warn when so many requests, one at a time, take longer than GBIF allows for searching."""
    seconds = num_requests * SECONDS_PER_REQUEST
    if seconds > LONG_CRAWL_S:
        log.warning(
            "%s takes about %.1f h, and GBIF asks to request a download instead: "
            "give an account (GBIF_USER, GBIF_PWD), and the data get a DOI as well",
            what,
            seconds / 3600,
        )


def make_queries(keys: Sequence[str], datasets: Sequence[str], checklist: str) -> Iterator[Query]:
    """Make the queries for the photographs of these taxa, from these datasets or from all."""
    for key in keys:
        query: Query = {"mediaType": "StillImage", "taxonKey": key}
        if checklist:
            query["checklistKey"] = checklist
        some = [list(datasets[i : i + MAX_DATASETS]) for i in range(0, len(datasets), MAX_DATASETS)]
        yield from ([query | {"datasetKey": these} for these in some] or [query])


def search(client: Client, api: str, query: Query, **more: str | int) -> dict[str, Any]:
    """Ask for one page of a search, whose `count` and `results` are checked. Raises GbifError."""
    status, body = client.json(f"{api}?{_encode(query)}&{urlencode(more)}")
    if status != 200 or not isinstance(body, dict):
        raise GbifError(
            f"GBIF answers {describe(status, body)} to the search for {_encode(query)}: check the keys and --checklist"
        )
    for result in read_objects(body, "results"):
        read_objects(result, "media")
    return body | {"count": read_count(body, "count"), "results": read_objects(body, "results")}


def _count(client: Client, api: str, query: Query) -> int:
    count: int = search(client, api, query, limit=0)["count"]
    return count


def count_by(client: Client, api: str, query: Query, name: str) -> dict[str, int]:
    """Count the occurrences for each value of a term. Raises GbifError."""
    body = search(client, api, query, limit=0, facet=name, facetLimit=MAX_FACETS)
    counts = (count for found in read_objects(body, "facets") for count in read_objects(found, "counts"))
    return {read_text(count, "name"): read_count(count, "count") for count in counts}


def _encode(query: Query) -> str:
    return urlencode(sorted(query.items()), doseq=True)


def _occurrences(folder: str, name: str) -> str:
    return f"{folder}/occurrence-{name}.txt"


def _media(folder: str, name: str) -> str:
    return f"{folder}/multimedia-{name}.txt"


def _read_plan(storage: Storage, folder: str) -> CrawlPlan | None:
    if not storage.exists(f"{folder}/{PLAN}"):
        return None
    known = storage.read_json(f"{folder}/{PLAN}")
    return CrawlPlan(**known | {"slices": tuple((query, size) for query, size in known["slices"])})


def _make_plan(
    client: Client, api: str, keys: Sequence[str], datasets: Sequence[str], checklist: str, journal: Journal
) -> CrawlPlan:
    date: str = journal.ask("date", lambda: datetime.now(UTC).date().isoformat())
    slices: list[tuple[Query, int]] = []
    total = 0
    questions = list(make_queries(keys, datasets, checklist))
    with progress("counting at GBIF", len(questions), "questions") as advance:
        for query in questions:
            count = journal.ask(_encode(query), partial(_count, client, api, query))
            total += count
            pieces = _divide(client, api, query, count, DIVIDERS, journal) if count > MAX_RECORDS else [(query, count)]
            slices += [(piece, min(size, MAX_RECORDS)) for piece, size in pieces if size]
            advance(1)
    return CrawlPlan(date, total, max(0, total - sum(size for _, size in slices)), tuple(slices))


def _divide(
    client: Client, api: str, query: Query, count: int, dividers: Sequence[str], journal: Journal
) -> Iterator[tuple[Query, int]]:
    """Divide a query until no slice has more than MAX_RECORDS; first by a term that every record has a value of."""
    best: tuple[str, dict[str, int]] | None = None
    for name in dividers:
        if isinstance(query.get(name), str):
            continue
        values = journal.ask(f"{_encode(query)} by {name}", partial(count_by, client, api, query, name))
        if len(values) > 1 and (best is None or sum(values.values()) > sum(best[1].values())):
            best = (name, values)
        if best and sum(best[1].values()) >= count:
            break
    if best is None:
        yield query, count  # more than MAX_RECORDS: the rest cannot be reached, and is counted
        return
    name, values = best
    others = [other for other in dividers if other != name]
    for value, size in sorted(values.items()):
        piece: Query = query | {name: value}
        yield from _divide(client, api, piece, size, others, journal) if size > MAX_RECORDS else [(piece, size)]


def _write_slice(
    client: Client, api: str, query: Query, size: int, checklist: str, storage: Storage, folder: str, name: str
) -> int:
    """Write the two files of a slice of about `size` occurrences; return their number.

    Raises GbifError when GBIF gives nothing and does not say that this is the end.
    """
    occurrences: list[str] = []
    media: list[str] = []
    while len(occurrences) < MAX_RECORDS:
        # Go on where the last page ended: a page may be shorter than was asked for.
        body = search(client, api, query, limit=min(PAGE, MAX_RECORDS - len(occurrences)), offset=len(occurrences))
        for result in body["results"]:
            row = make_row(result, checklist)
            occurrences.append(make_line(row, OCCURRENCE_TERMS))
            media += [make_line({**m, "gbifID": row["gbifID"]}, MEDIA_TERMS) for m in read_objects(result, "media")]
        if body.get("endOfRecords"):
            break
        if not body["results"]:
            raise GbifError(
                f"GBIF gives an empty page after {len(occurrences):,} of {size:,} occurrences: run the same command "
                "later, it goes on with this slice"
            )
    storage.write_bytes(_occurrences(folder, name), "".join(occurrences).encode())
    storage.write_bytes(_media(folder, name), "".join(media).encode())
    return len(occurrences)
