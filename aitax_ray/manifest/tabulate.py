"""The work of the manifest stage: open the source, decide which of its rows are kept, write the tables."""

import contextlib
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pyarrow as pa

from aitax_ray import schemas, takedowns, workspace
from aitax_ray.criteria import Criteria
from aitax_ray.darwin_core import relations
from aitax_ray.darwin_core.archive import open_archive
from aitax_ray.darwin_core.tables import ASK
from aitax_ray.database import nullable, open_database, parquet, write
from aitax_ray.errors import ArchiveError, DataError, GbifError
from aitax_ray.gbif import api, matching
from aitax_ray.gbif.client import Client
from aitax_ray.gbif.vernacular import ask_vernacular_names
from aitax_ray.manifest import media, photos, source, stored, taxa
from aitax_ray.manifest.decide import Rules, decide_rows
from aitax_ray.manifest.labels import labelling
from aitax_ray.manifest.origin import Origin
from aitax_ray.manifest.source import TaxonQuery
from aitax_ray.storage import Storage
from aitax_ray.web import hide_secrets, host_sql
from aitax_ray.workspace import Outcome

if TYPE_CHECKING:
    from aitax_ray.manifest.settings import ManifestSettings

log = logging.getLogger(__name__)

ENGLISH = "eng"
UNMATCHED = "manifest/unmatched_names.json"
# Counts of what is missing. They stand in the report where they are not 0.
MALFORMED_OCCURRENCES = "malformed_occurrences"  # rows of occurrences or taxa that fit their table in no way
NAMES_UNMATCHED = "names_unmatched"  # of --names
OCCURRENCES_UNREACHABLE = "occurrences_unreachable"  # by its search
VERNACULAR_NAMES_MISSING = "vernacular_names_missing"  # species for which it did not answer


@dataclass(frozen=True)
class Rows:
    """The rows of a source, each kept or dropped: in the database as decide_rows leaves them, media in `folder`."""

    database: duckdb.DuckDBPyConnection
    folder: Path
    counts: Counter[str]  # rows by the reason why they are dropped; "" counts those that are kept
    origin: Origin
    has_gbif_keys: bool = True  # whether the keys of taxa are those of GBIF, not a publisher's own
    num_malformed: int = 0  # rows of occurrences or taxa

    @property
    def hosts(self) -> dict[str, int]:
        """The number of photographs on each host, the largest first."""
        media_files = parquet(self.folder / "media" / "*.parquet")
        # The pattern takes long: it looks at each beginning of a URL once.
        begin = "array_to_string(string_split(url, '/')[:3], '/')"
        rows = self.database.execute(
            f"SELECT {host_sql('begin')} AS host, sum(n)::BIGINT AS n FROM "
            f"(SELECT {begin} AS begin, count(*) AS n FROM {media_files} GROUP BY begin) "
            "GROUP BY host ORDER BY n DESC, host"
        )
        return {host: number for host, number in rows.fetchall() if host}


def tabulate(storage: Storage, settings: "ManifestSettings") -> Outcome:
    """Write the tables of the manifest and archive/query.json; return the counts. Raises as `manifest` does."""
    with Client(settings.contact) as client, open_rows(storage, client, settings) as rows:
        if rows.origin.archive != stored.STORED:  # an earlier run fetched another archive
            storage.delete(stored.STORED)
        if not rows.origin.archive.startswith(source.SEARCH):
            storage.delete(source.SEARCH)
        if not settings.names:
            storage.delete(UNMATCHED)
        tables = rows.folder / "tables"
        tables.mkdir()
        write(rows.database, nullable("FROM dropped ORDER BY row"), tables / "dropped.parquet")
        num_occurrences = taxa.write_occurrences(rows.database, tables / "occurrences.parquet")
        taxon_table = _add_lineages(taxa.read_taxa(rows.database), client, settings)
        taxon_table, num_unnamed = _add_vernacular_names(taxon_table, storage, client, settings, rows)
        storage.delete(workspace.MEDIA)
        storage.upload(rows.folder / "media", workspace.MEDIA)
        storage.upload(tables, workspace.DROPPED.rsplit("/", 1)[0])
        storage.write_table(workspace.TAXA, _to_arrow(taxon_table, schemas.TAXA))
        missing = {
            MALFORMED_OCCURRENCES: rows.num_malformed,
            NAMES_UNMATCHED: len(storage.read_json(UNMATCHED)) if settings.names else 0,
            OCCURRENCES_UNREACHABLE: rows.origin.beyond_reach,
            VERNACULAR_NAMES_MISSING: num_unnamed,
        }
        outcome = Outcome(
            counts={
                "rows_read": rows.counts.total(),
                "kept": rows.counts[""],
                "species": taxon_table.height,
                "occurrences": num_occurrences,
                "hosts": len(rows.hosts),
            }
            | {name: number for name, number in missing.items() if number},
            reasons={reason: n for reason, n in rows.counts.most_common() if reason},
        )
        about = {
            "settings": settings.result_fields() | {"archive": hide_secrets(settings.archive or "") or None},
            "counts": outcome.counts,
            "reasons": outcome.reasons,
            "versions": workspace.versions(),
        }
        storage.write_json(workspace.QUERY, asdict(rows.origin) | about)
        matching.forget_matches(storage)
        return outcome


@contextlib.contextmanager
def open_rows(storage: Storage, client: Client, settings: "ManifestSettings") -> Iterator[Rows]:
    """Open the source and decide which of its rows are kept. Raises as `manifest` does."""
    withdrawn = Criteria(takedowns.read_active_requests(storage))
    rules = Rules(settings.license, settings.number, settings.seed, withdrawn)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aitax-manifest-")))
        database = stack.enter_context(open_database(folder))
        has_gbif_keys, num_malformed = True, 0
        if settings.photos:
            origin = Origin(source=str(settings.photos.resolve()))
            num_rows = photos.read_folder(settings.photos, database)
        else:
            path, origin = stack.enter_context(_open_archive(storage, client, settings))
            archive = stack.enter_context(open_archive(path))
            origin, has_gbif_keys = origin.complete(archive.citation), archive.is_of_gbif
            num_rows, num_malformed = relations.link_media(archive, database, labelling(settings.label))
            if not num_rows:
                found = "lists no media at all"
                if archive.associated_media is not None:
                    found += ", and its associatedMedia hold no address"
                raise ArchiveError(f"{path} {found}, so none of its occurrences has a photograph: {ASK}")
            media.list_candidates(database, settings.label, settings.dataset_keys)
        counts = decide_rows(database, rules, num_rows, folder)
        if not counts[""]:
            reasons = ", ".join(f"{n:,} {reason}" for reason, n in counts.most_common())
            raise DataError(
                f"no photographs with a species in {origin.source}: {num_rows:,} rows were dropped ({reasons}); "
                "widen the query"
            )
        yield Rows(database, folder, counts, origin, has_gbif_keys, num_malformed)


@contextlib.contextmanager
def _open_archive(storage: Storage, client: Client, settings: "ManifestSettings") -> Iterator[tuple[Path, Origin]]:
    """Give the archive on local disk, and its origin."""
    path, checklist = settings.local_path, settings.checklist or ""
    if path is not None:
        yield (
            path,
            Origin(
                source=str(settings.archive),
                archive=str(path.resolve()),
                sha256=settings.content,
                checklist_key=checklist,
            ),
        )
    elif settings.archive:
        with source.open_url(storage, client, settings.archive) as (path, origin):
            yield path, replace(origin, checklist_key=checklist)
    elif name := settings.doi or settings.download_key:
        with source.open_download(
            storage,
            client,
            settings.gbif_url,
            name,
            settings.wait_s,
            request_again=settings.request_again,
            checklist=checklist,
        ) as found:
            yield found
    else:
        query = TaxonQuery(tuple(find_taxon_keys(storage, client, settings)), tuple(settings.dataset_keys), checklist)
        with source.open_taxa(storage, client, settings.gbif_url, query, settings.wait_s) as found:
            yield found


def find_taxon_keys(storage: Storage | None, client: Client, settings: "ManifestSettings") -> list[str]:
    """Find the keys that --species lists, or those of --names; names that GBIF does not know exactly go to UNMATCHED.

    Raises DataError when it knows none.
    """
    if settings.species:
        return matching.read_keys(settings.species, "--species")
    names = matching.read_lines(settings.names or Path(), "--names")
    matches = matching.match_names(client, settings.gbif_url, names, settings.checklist or "", storage)
    if storage is not None:
        storage.write_json(UNMATCHED, matches.unmatched)
    if matches.unmatched:
        log.warning(
            "%s of %s names are left out, as GBIF knows no species of exactly that name, such as %r%s",
            f"{len(matches.unmatched):,}",
            f"{len(names):,}",
            matches.unmatched[0]["name"],
            f" (see {UNMATCHED})" if storage is not None else "",
        )
    if not matches.keys:
        raise DataError(f"GBIF knows none of the {len(names):,} names in {settings.names}: check their spelling")
    return list(dict.fromkeys(matches.keys.values()))


def _add_lineages(table: pl.DataFrame, client: Client, settings: "ManifestSettings") -> pl.DataFrame:
    """With --lineage, fill in the higher taxa of species without a family, as GBIF knows them by their names."""
    names = table.filter((pl.col("family") == "") & (pl.col("name") != ""))["name"].to_list()
    if not settings.lineage or not names:
        return table
    try:
        known = matching.match_lineages(client, settings.gbif_url, names)
    except GbifError as error:
        log.warning("families and orders stay unknown: %s", error)
        return table
    log.info("GBIF knows the families and orders of %s of %s species", f"{len(known):,}", f"{len(names):,}")
    columns = [
        pl.Series(
            rank,
            [own or known.get(name, {}).get(rank, "") for own, name in table.select(rank, "name").iter_rows()],
            pl.String,
        )
        for rank in relations.RANKS
    ]
    return table.with_columns(columns)


def _add_vernacular_names(
    table: pl.DataFrame, storage: Storage, client: Client, settings: "ManifestSettings", rows: Rows
) -> tuple[pl.DataFrame, int]:
    """Add vernacular names to the taxa; return the number of taxa that GBIF did not answer for too."""
    is_asked = settings.vernacular_names
    if is_asked is None:
        is_asked = bool(settings.doi or settings.download_key or settings.names or settings.species)
    names: dict[str, dict[str, str]] = {}
    num_unnamed = 0
    # Keys of the backbone are numbers. GBIF has no names for other keys, or the names of other taxa.
    keys = [key for key in table["species_key"] if key.isdecimal()]
    if not settings.photos and len(keys) < table.height:
        keys = []
    if is_asked and keys and rows.has_gbif_keys and (rows.origin.checklist_key or api.BACKBONE) == api.BACKBONE:
        names = ask_vernacular_names(client, settings.gbif_url, keys, storage)
        num_unnamed = len(set(keys) - names.keys())
    elif is_asked:
        log.info("no vernacular names: GBIF has them for the keys of its backbone only, and these are others")
    listed = [
        [{"language": language, "name": name} for language, name in names.get(key, {}).items()]
        for key in table["species_key"]
    ]
    english = [
        own or names.get(key, {}).get(ENGLISH, "")
        for key, own in zip(table["species_key"], table["vernacular_name"], strict=True)
    ]
    kind = pl.List(pl.Struct({"language": pl.String, "name": pl.String}))
    named = table.with_columns(
        vernacular_names=pl.Series(listed, dtype=kind), vernacular_name=pl.Series(english, dtype=pl.String)
    )
    return named, num_unnamed


def _to_arrow(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    return frame.select(schema.names).to_arrow().cast(schema)
