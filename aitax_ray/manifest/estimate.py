"""`manifest --dry-run`: how many photographs, species, hosts and hours a query means, before any is fetched."""

import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aitax_ray import workspace
from aitax_ray.gbif import api, crawl
from aitax_ray.gbif.answer import read_objects
from aitax_ray.gbif.client import Client
from aitax_ray.gbif.request import build_search
from aitax_ray.gbif.searched import make_row
from aitax_ray.licenses import is_admitted, normalise
from aitax_ray.manifest import source
from aitax_ray.manifest.decide import LICENSE_NOT_ADMITTED
from aitax_ray.manifest.labels import LABELS
from aitax_ray.manifest.media import NO_LABEL_KEY, NOT_A_PHOTOGRAPH
from aitax_ray.manifest.stored import is_stored
from aitax_ray.manifest.tabulate import find_taxon_keys, open_rows
from aitax_ray.storage import Storage
from aitax_ray.web import hide_secrets, host_of
from aitax_ray.workspace import StageReport

if TYPE_CHECKING:
    from aitax_ray.manifest.settings import ManifestSettings

log = logging.getLogger(__name__)

BYTES_PER_PHOTO = 400_000  # a JPEG of about 2 megapixels; the originals of new cameras are larger
PER_SECOND_AND_HOST = 10  # requests that a host bears
SHOWN_HOSTS = 5


@dataclass(frozen=True)
class Estimate:
    """The size of a query. `hosts` has the number of photographs on each host, the largest first."""

    images: int
    species: int
    occurrences: int
    hosts: dict[str, int]
    reasons: dict[str, int]

    @property
    def num_bytes(self) -> int:
        """Bytes to download. Photographs on no host are local already."""
        return sum(self.hosts.values()) * BYTES_PER_PHOTO

    @property
    def hours(self) -> float:
        """Hours for the host with the most photographs, at a polite rate; the others are asked at the same time."""
        return max(self.hosts.values(), default=0) / PER_SECOND_AND_HOST / 3600

    def __str__(self) -> str:
        hosts = ", ".join(f"{host} {number:,}" for host, number in list(self.hosts.items())[:SHOWN_HOSTS])
        more = f" and {len(self.hosts) - SHOWN_HOSTS} more" if len(self.hosts) > SHOWN_HOSTS else ""
        dropped = ", ".join(f"{number:,} {reason}" for reason, number in self.reasons.items())
        where = (
            f"on {len(self.hosts):,} hosts ({hosts}{more}); about {self.num_bytes / 1e9:,.1f} GB to download, "
            f"in {self.hours:,.1f} h or more"
        )
        return (
            f"{self.images:,} photographs of {self.species:,} species in {self.occurrences:,} occurrences, "
            f"{where if self.hosts else 'none of them to download'}" + (f"; left out: {dropped}" if dropped else "")
        )


def dry_run(storage: Storage, settings: "ManifestSettings") -> StageReport:
    """Count or estimate a query, log the result, and return it as a report that is not stored.

    The photographs of a local archive, and of one at a URL (which is fetched for this and not kept), are counted
    exactly. Those of names, species and downloads are estimated: from GBIF's count and one page of its search for each.
    """
    started, begin = datetime.now(UTC), time.monotonic()
    counts: dict[str, int] = {}
    found: Estimate | None
    name, checklist = settings.doi or settings.download_key or "", settings.checklist or ""
    with Client(settings.contact) as client:
        if settings.names or settings.species:
            keys = find_taxon_keys(None, client, settings)
            found = _estimate_search(
                client, settings, list(crawl.make_queries(keys, settings.dataset_keys, checklist)), checklist
            )
        elif name and not is_stored(storage, name):
            found, counts = _estimate_download(client, settings, name)
        elif settings.local_path or is_stored(storage, name or settings.archive or ""):
            found = _count_archive(storage, client, settings)
        else:
            shown = hide_secrets(settings.archive or "")
            log.info("the archive is fetched to count what is in it, and not kept: %s", shown)
            with tempfile.TemporaryDirectory(prefix="aitax-dry-run-") as folder:
                found = _count_archive(Storage(folder), client, settings)
    if found:
        log.info("dry run: %s", found)
        counts = {
            "images": found.images,
            "species": found.species,
            "occurrences": found.occurrences,
            "hosts": len(found.hosts),
            "bytes": found.num_bytes,
        } | counts
    return StageReport(
        stage="manifest",
        settings=settings.model_dump(mode="json"),
        inputs={},
        fingerprint="",
        started=started,
        seconds=round(time.monotonic() - begin, 3),
        versions=workspace.versions(),
        counts=counts,
        reasons=found.reasons if found else {},
        metrics={"hours": found.hours} if found else {},
    )


def _count_archive(storage: Storage, client: Client, settings: "ManifestSettings") -> Estimate:
    with open_rows(storage, client, settings) as rows:
        num_species, num_occurrences = rows.database.execute(
            "SELECT count(DISTINCT species_key), count(DISTINCT occurrence_row) FROM kept"
        ).fetchall()[0]
        reasons = {reason: number for reason, number in rows.counts.most_common() if reason}
        return Estimate(rows.counts[""], num_species, num_occurrences, rows.hosts, reasons)


def _estimate_download(
    client: Client, settings: "ManifestSettings", name: str
) -> tuple[Estimate | None, dict[str, int]]:
    """Estimate a download from a page of what its query finds today; return the counts of GBIF's record of it too.

    The estimate is None when the search cannot answer the download's query.
    """
    record = api.resolve(client, settings.gbif_url, name, settings.wait_s)
    source.check_checklist(settings.checklist or "", record.key, record.checklist_key)
    description = (
        f"download {record.key} has {record.total_records:,} occurrences, with photographs or without, in an archive "
        f"of {record.size:,} bytes"
    )
    counts = {"occurrences_in_download": record.total_records, "archive_bytes": record.size}
    query = build_search(record.predicate or {}, settings.dataset_keys)
    if query is None:
        log.info(
            "dry run: %s; its query is none that GBIF's search takes, so its photographs are not estimated: the "
            "manifest stage itself counts them exactly",
            description,
        )
        return None, counts
    log.info("%s; the estimate is from GBIF's search, which knows the occurrences of today", description)
    checklist = "" if record.checklist_key == api.BACKBONE else record.checklist_key
    if checklist:
        query["checklistKey"] = checklist
    return _estimate_search(client, settings, [query], checklist), counts


def _estimate_search(
    client: Client, settings: "ManifestSettings", queries: Sequence[crawl.Query], checklist: str
) -> Estimate:
    """Estimate from the first page of each query, each occurrence once: it stands for its share of the query."""
    crawl.warn_if_long(len(queries), f"asking GBIF {len(queries):,} questions")
    address, label = f"{settings.gbif_url.rstrip('/')}/v1/occurrence/search", LABELS[settings.label].key
    images, occurrences = 0.0, 0.0
    hosts: dict[str, float] = {}
    reasons: dict[str, float] = {}
    seen, labels = set(), set()
    for query in queries:
        page = crawl.search(client, address, query, limit=crawl.PAGE, offset=0)
        for result in page["results"]:
            row = make_row(result, checklist)
            if row["gbifID"] in seen:
                continue
            seen.add(row["gbifID"])
            share = page["count"] / len(page["results"])
            urls = []
            for media in read_objects(result, "media"):
                if reason := _find_reason(media, row.get(label), settings):
                    reasons[reason] = reasons.get(reason, 0.0) + share
                else:
                    urls.append(str(media.get("identifier") or ""))
            if urls:
                labels.add(row[label])
                occurrences += share
                images += share * len(urls)
                for host in filter(None, map(host_of, urls)):
                    hosts[host] = hosts.get(host, 0.0) + share
    log.info(
        "estimated from GBIF's counts and at most %s occurrences for each of %s questions: species and hosts are those "
        "seen there, and photographs that several occurrences share are counted for each",
        crawl.PAGE,
        f"{len(queries):,}",
    )
    if settings.number:
        log.info(
            "--number is not taken into account: at most %s photographs of each species will be kept", settings.number
        )
    return Estimate(round(images), len(labels), round(occurrences), _rank(hosts), _rank(reasons))


def _find_reason(media: Mapping[str, Any], label: object, settings: "ManifestSettings") -> str:
    """Find why the stage would drop a media row of the search; "" when it would keep it."""
    if media.get("type") != "StillImage":
        return NOT_A_PHOTOGRAPH
    if not label:
        return NO_LABEL_KEY.format(settings.label.replace("-", "_"))
    is_kept = is_admitted(normalise(str(media.get("license") or "")), settings.license)
    return "" if is_kept else LICENSE_NOT_ADMITTED


def _rank(numbers: Mapping[str, float]) -> dict[str, int]:
    """Round the numbers, and put the largest first."""
    return {name: round(n) for name, n in sorted(numbers.items(), key=lambda item: (-item[1], item[0]))}
