"""The facts of a data set: every number and text of its data card, ready for JSON.

DuckDB counts the rows of the tables of manifest, download and split, within its memory limit. From images/ it reads
only keys and sizes, never pixels.
"""

import tempfile
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aitax_ray import schemas, workspace
from aitax_ray.dataset.caveats import FEW, list_caveats
from aitax_ray.dataset.label_trust import TRUSTS
from aitax_ray.dataset.reasons import CONFLICT, EXACT_DUPLICATE, NEAR_DUPLICATE, NOT_IN_MANIFEST, REASONS
from aitax_ray.errors import DataError
from aitax_ray.fates import fates_sql
from aitax_ray.licenses import UNKNOWN, is_admitted
from aitax_ray.web import hide_secrets_in, host_sql, publish_address
from aitax_ray.workspace import Outcome, Workspace

if TYPE_CHECKING:
    import duckdb

SIDES = ("train", "val", "test")
SHOWN = 20  # hosts, countries, ... that are listed
EXAMPLES = 6  # clusters shown per kind
IDENTIFICATIONS = 3  # examples per trust
PHOTOGRAPHS = 4  # shown per cluster
MAX_UNUSED_SPECIES = 500  # listed
COARSE_M = 10_000  # coordinates less certain than this give a region, not a place
TEXT = 4000  # characters kept of a predicate, which may list every taxon
DATASETS = 20  # citations kept of those of the datasets
SIDE_EDGES = (64, 128, 192, 256, 320, 384, 448, 512, 640, 768, 1024, 1536, 2048)  # px
MEGAPIXEL_EDGES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 4, 8)

NEVER_STORED = "never_stored"  # the ledger gives no other reason
STORED_EARLIER = "stored_earlier"
NOT_REPORTED = "not_reported"
MEANINGS = REASONS | {
    NEVER_STORED: "no attempt to fetch it is in the ledger",
    STORED_EARLIER: "stored for an earlier manifest, and still there",
    NOT_REPORTED: "the reports give no reason",
}
# Settings that are not published: they say where files lie, how to reach them and how a run was started.
PRIVATE = {"root", "force", "contact", "gbif_url", "dry_run"}

_NUM_GROUPS_ON_SEVERAL_SIDES = (
    """SELECT count(*) FROM (SELECT "group" FROM used GROUP BY "group" HAVING count(DISTINCT side) > 1)"""
)
_HOST = host_sql("url")
_PAGE = r"""CASE WHEN regexp_matches("references", '(?i)^https?://\S+$') THEN "references"
                 WHEN regexp_matches(url, '(?i)^https?://\S+$') THEN url ELSE '' END"""
# ISO 8601: a day, a month or a year, or a range of them, whose end may be shortened (2019-05-03/07).
_FIRST, _LAST = (
    rf"try_cast(regexp_extract(event_date, '{before}(\d{{4}})(?:\D|\d{{4}}|$)', 1) AS INTEGER)" for before in "^/"
)


def gather(ws: Workspace, settings: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    """Count the facts of the data card. split.parquet and excluded.parquet must be written before.

    `settings` and `outcome` are those of `split`, whose report is not written yet. The distributions (hosts,
    licences, countries, ...) count the photographs used; the map counts their occurrences.
    """
    from aitax_ray.database import MEMORY_FOR_JOINS, open_database

    with (
        tempfile.TemporaryDirectory(prefix="aitax-card-") as scratch,
        open_database(Path(scratch), MEMORY_FOR_JOINS) as database,
    ):
        _register_tables(ws, database)
        licenses = _counted(database, "license_id")
        species = _species(database)
        facts = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "query": _query(ws),
            "outcome": outcome.model_dump(),
            "funnel": _funnel(ws, database),
            "sides": _sides(database),
            "num_groups_parted": _number(database, _NUM_GROUPS_ON_SEVERAL_SIDES),
            "species": species,
            "species_summary": _summary(species),
            "unused_species": _unused_species(database),
            "hosts": _top(_counted(database, "host")),
            "licenses": _top(licenses)
            | {"num_open": sum(n for name, n in licenses.items() if is_admitted(name, "open"))},
            "countries": _top(_counted(database, "country_code")),
            "bases": _top(_counted(database, "basis_of_record")),
            "datasets": _top(_counted(database, "dataset_key")),
            "labels": _labels(database),
            "years": _years(database),
            "map": _map(database),
            "sizes": _sizes(database),
            "clusters": {kind: _clusters(database, kind) for kind in (CONFLICT, EXACT_DUPLICATE, NEAR_DUPLICATE)},
            "settings": {name: _without_private(found) for name, found in _settings(ws, settings).items()},
            "versions": workspace.versions(),
        }
    return facts | {"caveats": list_caveats(facts)}


def _register_tables(ws: Workspace, database: "duckdb.DuckDBPyConnection") -> None:
    """Register the tables, and create `used`: one row per photograph of the split with its metadata."""
    tables = {
        "media": (workspace.MEDIA, schemas.MEDIA),
        "taxa": (workspace.TAXA, schemas.TAXA),
        "occurrences": (workspace.OCCURRENCES, schemas.OCCURRENCES),
        "dropped": (workspace.DROPPED, schemas.DROPPED),
        "images": (workspace.IMAGES, schemas.IMAGES),
        "ledger": (workspace.LEDGER, schemas.LEDGER),
        "split": (workspace.SPLIT, schemas.SPLIT),
        "excluded": (workspace.EXCLUDED, schemas.EXCLUDED),
    }
    for name, (path, schema) in tables.items():
        database.register(name, ws.storage.dataset(path, schema))
    for name, key in {"media": "image_id", "taxa": "species_key", "split": "image_id"}.items():
        if _number(database, f"SELECT count(*) - count(DISTINCT {key}) FROM {name}"):
            path = tables[name][0]
            raise DataError(
                f"{path} has several rows with one {key}: run `aitax {path.split('/')[0]} --force --root {ws.root}`"
            )
    database.execute(
        f"""CREATE TABLE listed AS SELECT image_id, species_key, license_id, dataset_key, {_HOST} AS host FROM media;
        CREATE TABLE place AS SELECT DISTINCT ON (gbif_id) gbif_id, decimal_latitude AS lat, decimal_longitude AS lon,
            coordinate_uncertainty_m AS uncertainty_m, country_code, basis_of_record, event_date,
            {_FIRST} AS first_year, {_LAST} AS last_year
        FROM occurrences SEMI JOIN split USING (gbif_id)
        ORDER BY gbif_id, event_date DESC, lat, lon, country_code, basis_of_record;
        CREATE TABLE sized AS SELECT image_id, max(width) AS width, max(height) AS height FROM images GROUP BY image_id;
        -- One join after the other: each of them may take all of DuckDB's memory.
        CREATE TABLE chosen AS SELECT split.*, width, height FROM split LEFT JOIN sized USING (image_id);
        DROP TABLE sized;
        CREATE TABLE described AS SELECT chosen.*, license_id, dataset_key, host
            FROM chosen LEFT JOIN listed USING (image_id);
        DROP TABLE chosen;
        CREATE TABLE used AS SELECT image_id, gbif_id, described.species_key, split AS side, "group", trust,
            license_id, dataset_key, host, country_code, basis_of_record, first_year, last_year, width, height
        FROM described LEFT JOIN place USING (gbif_id);
        DROP TABLE described"""
    )


def _funnel(ws: Workspace, database: "duckdb.DuckDBPyConnection") -> list[dict[str, Any]]:
    """Count the steps from rows read to photographs used: a step less `left_out` plus `added` is the next step."""
    manifest, download = (ws.report(stage) or Outcome() for stage in ("manifest", "download"))
    dropped = manifest.reasons or _tally(database, "SELECT reason, count(*) FROM dropped GROUP BY ALL")
    excluded = _tally(database, "SELECT reason, count(*) FROM excluded GROUP BY ALL")
    urls, used = (_number(database, f"SELECT count(*) FROM {name}") for name in ("listed", "used"))
    earlier = {STORED_EARLIER: excluded[NOT_IN_MANIFEST]} if NOT_IN_MANIFEST in excluded else {}
    read = manifest.counts.get("rows_read", urls + sum(dropped.values()))
    steps: list[tuple[str, str, int, dict[str, int], dict[str, int]]] = [
        ("rows_read", "media rows read", read, dropped, {}),
        ("urls", "photographs listed", urls, download.reasons, earlier),
        ("stored", "photographs stored", used + sum(excluded.values()), excluded, {}),
        ("used", "photographs used", used, {}, {}),
    ]
    funnel = []
    for step, (name, title, num, left_out, added) in enumerate(steps):
        after = steps[step + 1][2] if step + 1 < len(steps) else num
        gap = num - sum(left_out.values()) + sum(added.values()) - after
        reasons_out = left_out | ({NOT_REPORTED: gap} if gap else {})
        listed = [
            [{"reason": reason, "meaning": MEANINGS.get(reason, ""), "num": n} for reason, n in by_number(reasons)]
            for reasons in (reasons_out, added)
        ]
        funnel.append({"step": name, "title": title, "num": num, "left_out": listed[0], "added": listed[1]})
    return funnel


def _sides(database: "duckdb.DuckDBPyConnection") -> dict[str, dict[str, Any]]:
    """Count what each side holds, with its share of the photographs in [0, 1]."""
    rows = _rows(
        database,
        """SELECT side, count(*) AS num_images, count(DISTINCT gbif_id) AS num_occurrences,
        count(DISTINCT "group") AS num_groups, count(DISTINCT species_key) AS num_species FROM used GROUP BY side""",
    )
    found, total = {row.pop("side"): row for row in rows}, sum(row["num_images"] for row in rows)
    none = {"num_images": 0, "num_occurrences": 0, "num_groups": 0, "num_species": 0}
    sides = {side: found.get(side, none) for side in SIDES}
    return {side: row | {"share": row["num_images"] / max(total, 1)} for side, row in sides.items()}


def _species(database: "duckdb.DuckDBPyConnection") -> list[dict[str, Any]]:
    """List the species used, those with most photographs first."""
    sides = ", ".join(f"count(*) FILTER (side = '{side}') AS {side}" for side in SIDES)
    return _rows(
        database,
        f"""SELECT species_key, coalesce(any_value(name), '') AS name,
        coalesce(any_value(vernacular_name), '') AS vernacular_name, count(*) AS num_images,
        count(DISTINCT gbif_id) AS num_occurrences, {sides}
        FROM used LEFT JOIN (SELECT species_key, name, vernacular_name FROM taxa) AS taxon USING (species_key)
        GROUP BY species_key ORDER BY num_images DESC, species_key""",
    )


def _summary(species: list[dict[str, Any]]) -> dict[str, Any]:
    import numpy as np

    shares = {"least": 0, "5 %": 0.05, "25 %": 0.25, "half": 0.5, "75 %": 0.75, "95 %": 0.95, "all": 1}
    counts = [row["num_images"] for row in species]
    running = np.cumsum(counts) if counts else np.zeros(1)
    return {
        "num": len(species),
        "few": FEW,
        "with_few_to_train": sum(row["train"] < FEW for row in species),
        "without_train": sum(not row["train"] for row in species),
        "without_val": sum(not row["val"] for row in species),
        "without_test": sum(not row["test"] for row in species),
        "with_half_of_the_images": int(np.searchsorted(running, running[-1] / 2) + 1) if counts else 0,
        "quantiles": {
            name: int(np.quantile(counts, share, method="lower")) for name, share in shares.items() if counts
        },
    }


def _unused_species(database: "duckdb.DuckDBPyConnection") -> dict[str, Any]:
    """List the species without a used photograph, each with its commonest reason.

    The reason is that of the stored photographs if there are any, else that of all listed ones.
    """
    database.execute(
        """CREATE TABLE lost AS SELECT species_key, image_id, reason, true AS stored FROM excluded
            ANTI JOIN used USING (species_key);
        CREATE TABLE missing AS SELECT species_key, image_id FROM listed ANTI JOIN used USING (species_key)
            ANTI JOIN excluded USING (image_id)"""
    )
    database.execute(
        f"""INSERT INTO lost SELECT species_key, image_id, coalesce(nullif(reason, ''), '{NEVER_STORED}'), false
        FROM missing LEFT JOIN ({fates_sql(["reason"])}) AS fate USING (image_id)"""
    )
    rows = _rows(
        database,
        """WITH counted AS (SELECT species_key, stored, reason, count(*) AS n FROM lost GROUP BY ALL),
        unused AS (SELECT species_key, sum(n)::BIGINT AS num_urls,
            coalesce(sum(n) FILTER (stored), 0)::BIGINT AS num_stored,
            first(reason ORDER BY stored DESC, n DESC, reason) AS reason FROM counted GROUP BY species_key)
        SELECT species_key, coalesce(name, '') AS name, num_urls, num_stored, reason
        FROM unused LEFT JOIN (SELECT species_key, name FROM taxa) AS taxon USING (species_key)
        ORDER BY num_urls DESC, species_key""",
    )
    reasons = Counter(row["reason"] for row in rows)
    listed = [{"reason": r, "meaning": MEANINGS.get(r, ""), "num": n} for r, n in by_number(dict(reasons))]
    return {"num": len(rows), "reasons": listed, "species": rows[:MAX_UNUSED_SPECIES]}


def _clusters(database: "duckdb.DuckDBPyConnection", kind: str) -> dict[str, Any]:
    """Count the photographs left out for looking like others, and show the largest clusters.

    A cluster is shown with some photographs of each of its species. The photograph that is kept comes first.
    """
    of_kind = f"excluded WHERE reason = '{kind}' AND cluster <> ''"
    nums = _rows(database, f"SELECT count(DISTINCT cluster) AS num, count(*) AS num_images FROM {of_kind}")[0]
    rows = _rows(
        database,
        f"""WITH largest AS (SELECT cluster, count(*) AS num_images FROM {of_kind} GROUP BY cluster
            ORDER BY num_images DESC, cluster LIMIT {EXAMPLES}),
        member AS (SELECT image_id, species_key, gbif_id, cluster, detail, false AS kept FROM {of_kind}),
        shown AS (FROM member UNION ALL BY NAME SELECT DISTINCT used.image_id, used.species_key, used.gbif_id, cluster,
            '' AS detail, true AS kept FROM member JOIN used ON used.image_id = detail),
        numbered AS (SELECT *, row_number() OVER (PARTITION BY cluster, species_key, kept ORDER BY image_id) AS turn
            FROM shown SEMI JOIN largest USING (cluster)),
        first_ones AS (FROM numbered QUALIFY
            row_number() OVER (PARTITION BY cluster ORDER BY kept DESC, turn, species_key) <= {PHOTOGRAPHS})
        SELECT cluster, num_images, image_id, gbif_id, species_key, coalesce(name, '') AS name, detail, kept,
            coalesce(page, '') AS page
        FROM first_ones JOIN largest USING (cluster)
            LEFT JOIN (SELECT species_key, name FROM taxa) AS taxon USING (species_key)
            LEFT JOIN (SELECT image_id, {_PAGE} AS page FROM media) AS page USING (image_id)
        ORDER BY num_images DESC, cluster, kept DESC, turn, species_key""",
    )
    examples: dict[str, dict[str, Any]] = {}
    for row in rows:
        cluster, num_images = row.pop("cluster"), row.pop("num_images")
        example = {"cluster": cluster, "reason": kind, "num_images": num_images, "images": []}
        examples.setdefault(cluster, example)["images"].append(row)
    return nums | {"meaning": REASONS[kind], "examples": list(examples.values())}


def _years(database: "duckdb.DuckDBPyConnection") -> dict[str, Any]:
    several = "first_year <> last_year"
    known = f"first_year IS NOT NULL AND NOT coalesce({several}, false)"
    counts = _tally(database, f"SELECT first_year, count(*) FROM used WHERE {known} GROUP BY ALL ORDER BY 1")
    num_several = _number(database, f"SELECT count(*) FROM used WHERE {several}")
    unknown = _number(database, "SELECT count(*) FROM used") - sum(counts.values()) - num_several
    return {"counts": [[year, n] for year, n in counts.items()], "num_several": num_several, "num_unknown": unknown}


def _map(database: "duckdb.DuckDBPyConnection") -> dict[str, Any]:
    """Count occurrences per cell of one degree, as [south, west, number], and those without a place or at 0, 0."""
    somewhere = "lat IS NOT NULL AND lon IS NOT NULL AND NOT (lat = 0 AND lon = 0)"
    cells = database.execute(
        f"""SELECT least(floor(lat), 89)::INTEGER AS south, least(floor(lon), 179)::INTEGER AS west, count(*)
        FROM place WHERE {somewhere} GROUP BY ALL ORDER BY ALL"""
    ).fetchall()
    total = _number(database, "SELECT count(DISTINCT gbif_id) FROM used")
    at_zero = _number(database, "SELECT count(*) FROM place WHERE lat = 0 AND lon = 0")
    shown = sum(number for _, _, number in cells)
    num = f"SELECT count(*) FROM place WHERE {somewhere} AND uncertainty_m"
    return {
        "cells": [list(cell) for cell in cells],
        "num_occurrences": total,
        "num_shown": shown,
        "num_at_zero": at_zero,
        "num_unknown": total - shown - at_zero,
        "num_coarse": _number(database, f"{num} > {COARSE_M}"),
        "num_uncertainty_unknown": _number(database, f"{num} IS NULL"),
    }


def _sizes(database: "duckdb.DuckDBPyConnection") -> dict[str, Any]:
    """Count stored photographs per bin: below each edge and not below the one before. The last bin has all others."""
    known = "FROM used WHERE width > 0 AND height > 0"
    sizes: dict[str, Any] = {}
    measures = {
        "shorter_side_px": ("least(width, height)", SIDE_EDGES),
        "megapixels": ("width::BIGINT * height / 1e6", MEGAPIXEL_EDGES),
    }
    for name, (measure, edges) in measures.items():
        bins = " ".join(f"WHEN {measure} < {edge} THEN {number}" for number, edge in enumerate(edges))
        found = _tally(database, f"SELECT CASE {bins} ELSE {len(edges)} END, count(*) {known} GROUP BY ALL")
        sizes[name] = {"edges": list(edges), "counts": [found.get(number, 0) for number in range(len(edges) + 1)]}
    num_known = _number(database, f"SELECT count(*) {known}")
    return sizes | {"num_unknown": _number(database, "SELECT count(*) FROM used") - num_known}


def _counted(database: "duckdb.DuckDBPyConnection", column: str) -> dict[str, int]:
    """Count photographs per value of a column, the commonest first; "" counts those without a value."""
    return _tally(database, f"SELECT coalesce({column}, ''), count(*) AS n FROM used GROUP BY ALL ORDER BY n DESC, 1")


def _labels(database: "duckdb.DuckDBPyConnection") -> list[dict[str, Any]]:
    """Count the photographs per trust in their label and per side, with the commonest identifications."""
    counts = {
        (trust, side): n
        for trust, side, n in database.execute("SELECT trust, side, count(*) FROM used GROUP BY ALL").fetchall()
    }
    rows = []
    for trust in TRUSTS:
        sides = {side: counts.get((trust, side), 0) for side in SIDES}
        if not any(sides.values()):
            continue
        examples = _rows(
            database,
            f"""SELECT identified_by, identification_status, left(identification_remarks, 80) AS remarks,
            occurrences.dataset_key AS dataset_key FROM occurrences JOIN used USING (gbif_id, species_key)
            WHERE trust = '{trust}' GROUP BY ALL ORDER BY count(*) DESC, 1, 2, 3, 4 LIMIT {IDENTIFICATIONS}""",
        )
        rows.append({"trust": trust, "meaning": TRUSTS[trust], "sides": sides, "examples": examples})
    return rows


def _top(counts: dict[str, int]) -> dict[str, Any]:
    known = {name: number for name, number in counts.items() if name not in ("", UNKNOWN)}
    top = list(known.items())[:SHOWN]
    return {
        "num_distinct": len(known),
        "num_unknown": sum(counts.values()) - sum(known.values()),
        "num_others": sum(known.values()) - sum(number for _, number in top),
        "top": [{"name": name, "num_images": number} for name, number in top],
    }


def _query(ws: Workspace) -> dict[str, Any]:
    """Describe where the data come from, as the manifest keeps it. Of a path only the last part is given."""
    import json

    query: defaultdict[str, Any] = defaultdict(str)
    if ws.storage.exists(workspace.QUERY):
        query |= ws.storage.read_json(workspace.QUERY)
    names = ("doi", "download_key", "citation", "checklist_key", "license", "created")
    citations = list(query["dataset_citations"] or ())
    return {
        **{name: str(query[name] or "") for name in names},
        "source": _without_private({"source": query["source"] or ""})["source"],
        "predicate": json.dumps(query["predicate"], ensure_ascii=False)[:TEXT] if query["predicate"] else "",
        "total_records": query["total_records"] or 0,
        "num_datasets": len(citations),
        "dataset_citations": citations[:DATASETS],
    }


def _settings(ws: Workspace, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    reports = {stage: ws.report(stage) for stage in ("manifest", "download")}
    return {stage: report.settings for stage, report in reports.items() if report} | {"split": settings}


def _without_private(settings: dict[str, Any]) -> dict[str, Any]:
    """Remove private settings, secrets and paths from settings that are to be published."""
    shown = {name: hide_secrets_in(value) for name, value in settings.items() if name not in PRIVATE}
    return {
        name: publish_address(value) if isinstance(value, str) and _is_place(value) else value
        for name, value in shown.items()
    }


def _is_place(text: str) -> bool:
    """Tell whether a text is a path or an address; a DOI has a slash too."""
    return "/" in text and not text.startswith("10.")


def by_number(reasons: dict[str, int]) -> list[tuple[str, int]]:
    """Sort reasons by their numbers, the largest first."""
    return sorted(reasons.items(), key=lambda item: (-item[1], item[0]))


def _rows(database: "duckdb.DuckDBPyConnection", query: str) -> list[dict[str, Any]]:
    found = database.execute(query)
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _tally(database: "duckdb.DuckDBPyConnection", query: str) -> dict[Any, int]:
    return dict(database.execute(query).fetchall())


def _number(database: "duckdb.DuckDBPyConnection", query: str) -> int:
    return int(database.execute(query).fetchall()[0][0])
