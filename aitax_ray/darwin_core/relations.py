"""Links the media of an archive to occurrences and taxa. The core may be Occurrence, Event or Taxon.

OUTPUT  two tables in the database:
        `media`: row, occurrence_id (gbif_id of `occurrence`, "" where it is not known), why (the reason to drop the
        row, "" where none is known yet), and MEDIA_COLUMNS
        `occurrence`: row, gbif_id (unique), species_key, dataset_key, place and time, who identified it, and the
        names of its taxon

Downloads of GBIF have keys of a checklist. Publishers' archives have only names. Their species_key is the canonical
name, as for a folder of photographs.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import duckdb
import polars as pl

from aitax_ray.darwin_core.archive import Archive
from aitax_ray.darwin_core.descriptor import ACCESS_TERMS, OCCURRENCE, TAXON, TableFile
from aitax_ray.darwin_core.tables import KEY, Terms
from aitax_ray.database import literal, parquet

log = logging.getLogger(__name__)

SEVERAL_SPECIES_IN_EVENT = "several_species_in_event"

PLACE_AND_TIME = {
    "decimal_latitude": ("decimalLatitude",),
    "decimal_longitude": ("decimalLongitude",),
    "coordinate_uncertainty_m": ("coordinateUncertaintyInMeters",),
    "event_date": ("eventDate",),
    "country_code": ("countryCode",),
    "basis_of_record": ("basisOfRecord",),
    "recorded_by": ("recordedBy",),
}
IDENTIFICATION = {
    "identified_by": ("identifiedBy",),
    "identification_status": ("identificationVerificationStatus",),
    "identification_remarks": ("identificationRemarks",),
}
RANKS = ("genus", "family", "order", "class", "phylum", "kingdom")
LINEAGE = {rank: (rank,) for rank in RANKS}
TAXON_COLUMNS = ("name", "scientific_name", "rank", "vernacular_name", *LINEAGE)
OCCURRENCE_COLUMNS = ("species_key", "dataset_key", *PLACE_AND_TIME, *IDENTIFICATION, *TAXON_COLUMNS)

# The columns of media, and the terms that fill them: the first term with a value wins, terms in a tuple are joined.
# Sources: https://rs.gbif.org/extension/gbif/1.0/multimedia.xml and https://ac.tdwg.org/termlist.
MEDIA_TERMS: dict[str, Terms] = {
    "type": ("type", "subtype", "subtypeLiteral"),
    "format": ("format", "bestQualityFormat"),
    "identifier": ("identifier",),
    "references": ("furtherInformationURL", "references", "hasServiceAccessPoint"),
    "title": ("title",),
    "description": ("description", "caption"),
    # All statements are read: one may restrict what another allows, or name the licence to which another links.
    "license": (("license", "WebStatement", "UsageTerms", "rights"),),
    "creator": ("creator",),
    "rightsHolder": ("rightsHolder", "Owner"),
    "publisher": ("publisher", "provider", "providerLiteral"),
}
MEDIA_COLUMNS = tuple(MEDIA_TERMS)
MALFORMED_ROW = "malformed_row"
_MALFORMED = f"CASE WHEN is_malformed THEN '{MALFORMED_ROW}' ELSE '' END"
# In associatedMedia: what stands before an address (in a list, in HTML, in JSON), and the scheme of the address.
_URLS = r"(?i)(?:^|[\s|;,\"'<>=\[\]{}])+(https?://)"
_BEHIND_URL = r"(?:[\"'<>\[\]{}]|[|;,](?:\s|$)|\s).*"
# Columns with the names of an occurrence's taxon. They make the label if an archive has no keys of a checklist.
NAME_TERMS: dict[str, Sequence[str]] = {
    "genus": ("genus",),
    "epithet": ("specificEpithet",),
    "infraspecific_epithet": ("infraspecificEpithet",),
    "family": ("family",),
    "scientific_name": ("scientificName", "species", "verbatimScientificName"),
    "accepted_name": ("acceptedScientificName", "acceptedNameUsage"),
    "rank": ("taxonRank", "verbatimTaxonRank"),
}
# The columns of a checklist's taxa.
TAXON_TERMS: dict[str, Sequence[str]] = {
    "scientific_name": ("scientificName",),
    "canonical_name": ("canonicalName",),
    "epithet": ("specificEpithet",),
    "infraspecific_epithet": ("infraspecificEpithet",),
    "rank": ("taxonRank", "verbatimTaxonRank"),
    "accepted_name": ("acceptedNameUsage", "acceptedScientificName"),
    "parent_name": ("parentNameUsage",),
    # In this line and the next one, the second term is that of old checklists.
    "accepted": ("acceptedNameUsageID", "acceptedTaxonID"),
    "parent": ("parentNameUsageID", "higherTaxonID"),
    "vernacular_name": ("vernacularName",),
    **LINEAGE,
}


@dataclass(frozen=True)
class LabelTerms:
    """The terms of an occurrence of GBIF that hold the key and the name of the label; the label's rank, "" for any."""

    key: str
    name: str
    rank: str


class NameLabel(NamedTuple):
    """A label by name: its key, its name with authorship ("" if the archive does not give it) and its rank."""

    key: str
    scientific_name: str
    rank: str


@dataclass(frozen=True)
class Labelling:
    """How photographs are labelled: by the terms in `terms`, or by a function if an archive has only names.

    `name_label` labels an occurrence; its keyword arguments are NAME_TERMS. `label_taxa` labels the taxa of a
    checklist: rows of core_id and TAXON_TERMS become rows of core_id, species_key and TAXON_COLUMNS.
    """

    terms: LabelTerms
    name_label: Callable[..., NameLabel]
    label_taxa: Callable[[pl.DataFrame], pl.DataFrame]


class Linked(NamedTuple):
    """The number of media rows, and the number of occurrences or taxa that are left out: their rows are malformed."""

    num_media: int
    num_malformed: int


def link_media(archive: Archive, database: duckdb.DuckDBPyConnection, labelling: Labelling) -> Linked:
    """Make the tables `media` and `occurrence`. Raises ArchiveError when a file of the archive cannot be read."""
    occurrences = None if archive.core.kind == TAXON else archive.descriptor.tables(OCCURRENCE)[0]
    with ThreadPoolExecutor(1, "occurrences") as executor:
        # The two largest tables are read at the same time, because reading one does not use all cores.
        rows = executor.submit(_read_occurrence_rows, archive, occurrences, labelling) if occurrences else None
        media, num_media = _read_media(archive, database)
    if rows is None:
        num_malformed = _link_taxa(archive, database, media, labelling)
    elif archive.core.kind == OCCURRENCE:
        num_malformed = _list_occurrences(database, rows.result(), labelling, key=KEY)
        database.execute(f"CREATE VIEW media AS SELECT *, {KEY} AS occurrence_id, {_MALFORMED} AS why FROM {media}")
    else:
        num_malformed = _link_events(database, media, rows.result(), labelling)
    return Linked(num_media, num_malformed)


def media_terms(table: TableFile) -> dict[str, Terms]:
    """Choose for each column of media the terms that fill it.

    If the table has a term that is always the address of the file (ACCESS_TERMS), that term fills `identifier`. The
    term `identifier` then fills `other_identifier`, because it may be an identifier of any kind.
    """
    has_address = any(map(table.has, ACCESS_TERMS))
    address: Terms = ACCESS_TERMS if has_address else ("identifier",)
    other: Terms = ("identifier",) if has_address else ()
    more = {"other_identifier": other, "managed_id": ("providerManagedID",), "occurrence_ref": ("occurrenceID",)}
    return MEDIA_TERMS | {"identifier": address} | more


def _read_media(archive: Archive, database: duckdb.DuckDBPyConnection) -> tuple[str, int]:
    """Make a view of the rows of all tables of media. Returns its name and the number of rows."""
    paths: list[Path] = []
    num_rows = 0
    for table in archive.media:
        path = archive.read(table, media_terms(table), first_row=num_rows)
        num_rows += _count(database, path)
        paths.append(path)
    if archive.associated_media is not None:
        path, num_listed = _read_associated(archive, archive.associated_media, num_rows)
        num_rows += num_listed
        paths.append(path)
    # Without an address, another identifier is taken if it begins with "http".
    identifier = (
        "CASE WHEN identifier <> '' THEN identifier WHEN other_identifier ILIKE 'http%' THEN other_identifier "
        "WHEN managed_id ILIKE 'http%' THEN managed_id ELSE '' END"
    )
    database.execute(
        f"CREATE VIEW listed_media AS SELECT * REPLACE ({identifier} AS identifier) FROM {parquet(*paths)}"
    )
    return "listed_media", num_rows


def _read_associated(archive: Archive, table: TableFile, first_row: int) -> tuple[Path, int]:
    """Read the addresses in `associatedMedia` into a file with the columns of media. Returns it and their number.

    The licence stays empty: the licence of the occurrence is not that of the photographs.
    """
    listed = pl.read_parquet(
        archive.read(table, {"associated": ("associatedMedia",), "occurrence_ref": ("occurrenceID",)})
    ).filter(pl.col("associated") != "", ~pl.col("is_malformed"))
    addresses = pl.col("associated").str.replace_all(_URLS, "\n$1").str.split("\n")
    rows = listed.with_columns(identifier=addresses).explode("identifier")
    rows = rows.with_columns(pl.col("identifier").str.replace(_BEHIND_URL, ""))
    rows = rows.filter(pl.col("identifier").str.contains(r"^(?i)https?://"))
    rows = rows.rename({"row": "listed_row"}).with_row_index("row")
    empty = [pl.lit("").alias(name) for name in (*media_terms(table), "is_malformed") if name not in rows.columns]
    names = ("row", KEY, *media_terms(table), "is_malformed")
    path = archive.scratch / "associated-media.parquet"
    rows.with_columns(pl.col("row").cast(pl.Int64) + first_row, *empty).select(names).write_parquet(path)
    log.info(
        "%s: %s addresses of media in associatedMedia of %s occurrences; %s other entries hold no address",
        table.locations[0], f"{rows.height:,}", f"{listed.height:,}",
        f"{listed['row'].n_unique() - rows['listed_row'].n_unique():,}",
    )  # fmt: skip
    return path, rows.height


class OccurrenceRows(NamedTuple):
    """An SQL expression for the rows of a table of occurrences, and whether they have a column `label_key`."""

    table: str
    has_keys: bool


def _read_occurrence_rows(archive: Archive, table: TableFile, labelling: Labelling) -> OccurrenceRows:
    terms: dict[str, Terms] = {
        "dataset_key": ("datasetKey",),
        "species": ("species",),
        "taxon_key": ("taxonKey",),
        "accepted_key": ("acceptedTaxonKey",),
        "vernacular_name": ("vernacularName",),
        **PLACE_AND_TIME,
        **IDENTIFICATION,
        **LINEAGE,
        **NAME_TERMS,
    }
    has_keys = table.has(labelling.terms.key)
    if has_keys:
        terms["label_key"] = (labelling.terms.key,)
        del terms["epithet"], terms["infraspecific_epithet"]  # not needed; reading a column takes time
    if table is not archive.core:
        terms["occurrence_ref"] = ("occurrenceID",)
    return OccurrenceRows(parquet(archive.read(table, terms)), has_keys)


def _list_occurrences(
    database: duckdb.DuckDBPyConnection, found: OccurrenceRows, labelling: Labelling, key: str
) -> int:
    """Make the table `occurrence` from a table of the archive. Returns the number of malformed rows, left out.

    `key` is an SQL expression for gbif_id, which is never "". It may contain {rows}, which becomes the table's name.
    """
    rows, has_keys = found
    columns = ", ".join(
        f'"{name}"' for name in ("dataset_key", *PLACE_AND_TIME, *IDENTIFICATION, "vernacular_name", *LINEAGE)
    )
    labelled = _with_keys(labelling.terms) if has_keys else _with_names(database, rows, labelling)
    num_malformed = int(database.execute(f"SELECT count(*) FROM {rows} WHERE is_malformed").fetchall()[0][0])
    where = " WHERE NOT is_malformed" if num_malformed else ""
    named = "" if has_keys else f"LEFT JOIN named USING ({', '.join(NAME_TERMS)})"
    database.execute(
        f"CREATE VIEW listed AS SELECT row, {key.format(rows=rows)} AS gbif_id, {KEY}, {labelled}, {columns} "
        f"FROM {rows} {named}{where}"
    )
    # GBIF sometimes lists an occurrence twice in one download (gbif/occurrence#1061). The first row is kept. In other
    # archives an id may stand for several occurrences. If they are of several species, a photograph may show any.
    is_contradicted = "false" if has_keys else "count(DISTINCT nullif(species_key, '')) > 1"
    database.execute(f"""
        CREATE TABLE repeated AS
        WITH first AS (
            SELECT gbif_id, min(row) AS first_row, {is_contradicted} AS is_contradicted
            FROM listed GROUP BY gbif_id HAVING count(*) > 1)
        SELECT gbif_id, row, row = first_row AS is_first, is_contradicted FROM listed JOIN first USING (gbif_id)""")
    contradicted = "FROM repeated WHERE is_first AND is_contradicted"
    ids = database.execute(f"SELECT gbif_id {contradicted} ORDER BY row").fetchall()
    species = f"CASE WHEN row IN (SELECT row {contradicted}) THEN '' ELSE species_key END" if ids else "species_key"
    database.execute(
        f"CREATE VIEW occurrence AS SELECT * REPLACE ({species} AS species_key) FROM listed "
        "WHERE row NOT IN (SELECT row FROM repeated WHERE NOT is_first)"
    )
    if ids:
        log.warning(
            "%s ids stand for occurrences of several species, such as %r: their photographs are left out",
            f"{len(ids):,}", ids[0][0],
        )  # fmt: skip
    return num_malformed


def _with_keys(terms: LabelTerms) -> str:
    rank = literal(terms.rank) if terms.rank else "CASE WHEN taxon_key = label_key THEN upper(rank) ELSE '' END"
    # A name with authorship is taken only if it is the name of the label, not of a synonym or of a lower taxon.
    return f"""
        label_key AS species_key,
        {f'"{terms.name}"' if terms.name else "''"} AS name,
        CASE WHEN accepted_key = label_key AND accepted_name <> '' THEN accepted_name
             WHEN taxon_key = label_key OR (upper(rank) = {literal(terms.rank)} AND accepted_key = '')
             THEN scientific_name
             ELSE '' END AS scientific_name,
        {rank} AS rank"""


def _with_names(database: duckdb.DuckDBPyConnection, rows: str, labelling: Labelling) -> str:
    names = list(NAME_TERMS)
    found = database.execute(f"SELECT DISTINCT {', '.join(names)} FROM {rows}").fetchall()
    labels = [(*texts, *labelling.name_label(**dict(zip(names, texts, strict=True)))) for texts in found]
    schema = dict.fromkeys((*names, "key", "own_name", "own_rank"), pl.String)
    database.register("named_frame", pl.DataFrame(labels, schema=schema, orient="row"))
    database.execute("CREATE TABLE named AS FROM named_frame")
    return "named.key AS species_key, named.key AS name, named.own_name AS scientific_name, named.own_rank AS rank"


def _link_events(database: duckdb.DuckDBPyConnection, media: str, found: OccurrenceRows, labelling: Labelling) -> int:
    """Link each media row of an event to the occurrence that it names.

    If it names none and all occurrences of its event are of one species, it is linked to one of these.
    """
    # An occurrence without an id gets one from its row, so that its species counts among those of its event.
    # Occurrences of different events that have the same id are different occurrences.
    shared = f"SELECT occurrence_ref FROM {{rows}} GROUP BY occurrence_ref HAVING count(DISTINCT {KEY}) > 1"
    own_id = (
        "CASE WHEN occurrence_ref = '' THEN 'occurrence-' || row "
        f"WHEN occurrence_ref IN ({shared}) THEN {KEY} || '/' || occurrence_ref ELSE occurrence_ref END"
    )
    num_malformed = _list_occurrences(database, found, labelling, key=own_id)
    database.execute(
        f"CREATE TABLE event AS SELECT {KEY} AS event_id, min(gbif_id) AS gbif_id, "
        f"count(DISTINCT species_key) AS num_species FROM listed GROUP BY {KEY}"
    )
    database.execute(f"""
        CREATE VIEW media AS SELECT m.*,
            coalesce(there.gbif_id, named.gbif_id, own.gbif_id, CASE WHEN num_species = 1 THEN event.gbif_id END, '')
                AS occurrence_id,
            CASE WHEN m.is_malformed THEN '{MALFORMED_ROW}'
                 WHEN coalesce(there.gbif_id, named.gbif_id, own.gbif_id) IS NULL AND num_species > 1
                 THEN {literal(SEVERAL_SPECIES_IN_EVENT)} ELSE '' END AS why
        FROM {media} AS m
        LEFT JOIN occurrence AS there ON m.{KEY} || '/' || m.occurrence_ref = there.gbif_id
        LEFT JOIN occurrence AS named ON m.occurrence_ref = named.gbif_id
        LEFT JOIN occurrence AS own ON m.{KEY} = own.gbif_id
        LEFT JOIN event ON m.{KEY} = event.event_id""")
    return num_malformed


def _link_taxa(archive: Archive, database: duckdb.DuckDBPyConnection, media: str, labelling: Labelling) -> int:
    """Link the media of taxa. Each photograph becomes a separate occurrence, without place and time."""
    rows = pl.read_parquet(archive.read(archive.core, TAXON_TERMS))
    taxa = rows.filter(~pl.col("is_malformed")).drop("is_malformed")
    database.register("taxon_frame", labelling.label_taxa(taxa.unique(KEY, keep="first", maintain_order=True)))
    database.execute("CREATE TABLE taxon AS FROM taxon_frame")
    database.execute(
        f"CREATE VIEW media AS SELECT *, {_MALFORMED} AS why, "
        f"'photo-' || left(sha1({KEY} || ' ' || coalesce(nullif(identifier, ''), \"references\")), 16) "
        f"AS occurrence_id FROM {media}"
    )
    unknown = ", ".join(f"'' AS {name}" for name in ("dataset_key", *PLACE_AND_TIME, *IDENTIFICATION))
    names = ", ".join(f'taxon."{name}"' for name in ("species_key", *TAXON_COLUMNS))
    database.execute(
        f"CREATE TABLE occurrence AS SELECT min(row) AS row, occurrence_id AS gbif_id, {names}, {unknown} "
        f"FROM media JOIN taxon USING ({KEY}) GROUP BY ALL ORDER BY row"
    )
    return rows.height - taxa.height


def _count(database: duckdb.DuckDBPyConnection, path: Path) -> int:
    return int(database.execute(f"SELECT count(*) FROM {parquet(path)}").fetchall()[0][0])
