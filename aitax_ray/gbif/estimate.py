"""`manifest --dry-run`: what a query comes to, before a photograph is fetched."""

import logging
import re
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aitax_ray import workspace
from aitax_ray.gbif import crawl, source
from aitax_ray.gbif.answer import parts
from aitax_ray.gbif.client import Client
from aitax_ray.gbif.tabulate import settled, taxon_keys
from aitax_ray.storage import Storage
from aitax_ray.workspace import StageReport

if TYPE_CHECKING:
    from aitax_ray.gbif.manifest import ManifestSettings

log = logging.getLogger(__name__)

BYTES_PER_PHOTO = 400_000  # what a photograph of some 2 megapixels takes as a JPEG; originals of today take more
PER_SECOND_AND_HOST = 10  # what a host can be asked for without being a nuisance
SHOWN_HOSTS = 5
HOST = re.compile(r"https?://([^/?#]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Estimate:
    """What a query comes to. `hosts` has the number of photographs on each, the largest first."""

    images: int
    species: int
    occurrences: int
    hosts: dict[str, int]
    reasons: dict[str, int]

    @property
    def num_bytes(self) -> int:
        """What there is to download: photographs that lie on no host are there already."""
        return sum(self.hosts.values()) * BYTES_PER_PHOTO

    @property
    def hours(self) -> float:
        """How long the host with the most photographs takes, at a polite rate; the others go on beside it."""
        return max(self.hosts.values(), default=0) / PER_SECOND_AND_HOST / 3600

    def __str__(self) -> str:
        hosts = ", ".join(f"{host} {number:,}" for host, number in list(self.hosts.items())[:SHOWN_HOSTS])
        more = f" and {len(self.hosts) - SHOWN_HOSTS} more" if len(self.hosts) > SHOWN_HOSTS else ""
        dropped = ", ".join(f"{number:,} {reason}" for reason, number in self.reasons.items())
        return (
            f"{self.images:,} photographs of {self.species:,} species in {self.occurrences:,} occurrences, "
            f"on {len(self.hosts):,} hosts ({hosts}{more}); about {self.num_bytes / 1e9:,.1f} GB to download, "
            f"in {self.hours:,.1f} h or more" + (f"; left out: {dropped}" if dropped else "")
        )


def dry_run(storage: Storage, settings: "ManifestSettings") -> StageReport:
    """Count what a query comes to, log it, and return it as a report that is not stored.

    Photographs of an archive are counted exactly (one that is not there yet is fetched, and not kept); those of names
    and species are estimated from GBIF's counts and the first page of each.
    """
    started, begin = datetime.now(UTC), time.monotonic()
    with Client(settings.contact) as client, tempfile.TemporaryDirectory(prefix="aitax-dry-run-") as folder:
        if settings.names or settings.species:
            found = _of_search(client, settings)
        else:
            name = settings.doi or settings.download_key or settings.archive or ""
            kept = storage if source.is_stored(storage, name) else Storage(folder)
            with settled(kept, client, settings) as rows:
                told = rows.database.execute(
                    "SELECT count(DISTINCT species_key), count(DISTINCT occurrence_row) FROM kept"
                ).fetchall()[0]
                reasons = {reason: number for reason, number in rows.counts.most_common() if reason}
                found = Estimate(rows.counts[""], told[0], told[1], rows.hosts, reasons)
    log.info("dry run: %s", found)
    return StageReport(
        stage="manifest",
        settings=settings.model_dump(mode="json"),
        inputs={},
        fingerprint="",
        started=started,
        seconds=round(time.monotonic() - begin, 3),
        versions=workspace.versions(),
        counts={
            "images": found.images,
            "species": found.species,
            "occurrences": found.occurrences,
            "hosts": len(found.hosts),
            "bytes": found.num_bytes,
        },
        reasons=found.reasons,
        metrics={"hours": found.hours},
    )


def _of_search(client: Client, settings: "ManifestSettings") -> Estimate:
    api = f"{settings.gbif_url.rstrip('/')}/v1/occurrence/search"
    images, occurrences, species = 0.0, 0, 0
    hosts: dict[str, float] = {}
    for query in crawl.queries(taxon_keys(None, client, settings), settings.dataset_keys, settings.checklist or ""):
        page = crawl.search(client, api, query, limit=crawl.PAGE, offset=0)
        count, results = page["count"], page["results"]
        media = (m for result in results for m in parts(result, "media") if m.get("type") == "StillImage")
        found = [HOST.match(str(m.get("identifier") or "").strip()) for m in media]
        share = count / len(results) if results else 0.0
        images += share * len(found)
        occurrences += count
        species += bool(found)
        for host in (match[1].lower() for match in found if match):
            hosts[host] = hosts.get(host, 0.0) + share
    ranked = sorted(hosts.items(), key=lambda item: (-item[1], item[0]))
    if settings.number:
        log.info(
            "--number is not taken into account: at most %s photographs of each species will be kept", settings.number
        )
    return Estimate(round(images), species, occurrences, {host: round(n) for host, n in ranked}, {})
