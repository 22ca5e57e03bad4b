"""Tables of the occurrences and the taxa that the kept photographs belong to, as the archive describes them."""

from pathlib import Path

import duckdb
import polars as pl

from aitax_ray.darwin_core.relations import LINEAGE
from aitax_ray.darwin_core.scientific_names import canonical_name, read_name, split_name
from aitax_ray.database import nullable, write
from aitax_ray.schemas import OCCURRENCES

LIMITS = {"decimal_latitude": (-90, 90), "decimal_longitude": (-180, 180), "coordinate_uncertainty_m": (0, 4.1e7)}
_TEXTS = ("name", "scientific_name", "rank", "vernacular_name", *LINEAGE)
_KEPT = "occurrence.row IN (SELECT occurrence_row FROM kept)"


def write_occurrences(database: duckdb.DuckDBPyConnection, path: Path) -> int:
    """Write the occurrences of the photographs to a Parquet file (schemas.OCCURRENCES), and return their number.

    A coordinate that is no number, or that no place on earth has, is null.
    """

    def column(name: str) -> str:
        if name not in LIMITS:
            return f"{name}::TEXT AS {name}"
        least, most = LIMITS[name]
        number = f"TRY_CAST(trim({name}) AS DOUBLE)"
        return f"CASE WHEN {number} BETWEEN {least} AND {most} THEN {number} END AS {name}"

    # Keep the order of the archive: sorting such wide rows would take longer than everything else.
    database.execute("SET preserve_insertion_order = true")
    query = f"SELECT {', '.join(map(column, OCCURRENCES.names))} FROM occurrence WHERE {_KEPT}"
    write(database, nullable(query), path)
    database.execute("SET preserve_insertion_order = false")
    found = database.execute("SELECT count(DISTINCT occurrence_row) FROM kept").fetchall()
    return int(found[0][0])


def read_taxa(database: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Return the taxa of the photographs, sorted by species_key, with all columns of schemas.TAXA but vernacular_names.

    When occurrences of one taxon differ, the most frequent text counts. Of equally frequent texts the first in
    alphabetical order counts.
    """
    texts = ", ".join(f'"{name}"' for name in _TEXTS)
    rows = database.execute(
        f"SELECT species_key, {texts}, count(*) AS n FROM occurrence WHERE {_KEPT} GROUP BY ALL"
    ).fetchall()
    frame = pl.DataFrame(
        rows, schema=dict.fromkeys(("species_key", *_TEXTS), pl.String) | {"n": pl.Int64}, orient="row"
    ).with_columns(pl.col(_TEXTS).str.normalize("NFC"))
    counts = database.execute("SELECT species_key::TEXT, sum(num_images)::BIGINT FROM kept GROUP BY ALL").fetchall()
    images = pl.DataFrame(counts, schema={"species_key": pl.String, "num_images": pl.Int64}, orient="row")
    taxa = frame.group_by("species_key").agg(num_occurrences=pl.col("n").sum())
    taxa = taxa.join(images, on="species_key", validate="1:1")
    for name in _TEXTS:
        most_frequent = (
            frame.filter(pl.col(name) != "")
            .group_by("species_key", name)
            .agg(pl.col("n").sum())
            .sort("n", name, descending=[True, False])
            .group_by("species_key", maintain_order=True)
            .agg(pl.col(name).first())
        )
        taxa = taxa.join(most_frequent, on="species_key", how="left", validate="1:1")
        taxa = taxa.with_columns(pl.col(name).fill_null(""))
    taxa = taxa.sort("species_key")
    names = [
        split_name(name or canonical_name(full), full)
        for name, full in zip(taxa["name"], taxa["scientific_name"], strict=True)
    ]
    # The genus of a binomial is its first word, also where the archive, or a folder of photographs, gives none.
    parsed = [read_name(n.name) for n in names]
    genus = [own or (p.genus if p.species else "") for own, p in zip(taxa["genus"], parsed, strict=True)]
    return taxa.with_columns(
        genus=pl.Series(genus, dtype=pl.String),
        name=pl.Series([n.name for n in names], dtype=pl.String),
        authorship=pl.Series([n.authorship for n in names], dtype=pl.String),
        scientific_name=pl.Series([n.scientific_name for n in names], dtype=pl.String),
    )
