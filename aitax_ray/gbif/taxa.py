"""The occurrences and the species of the photographs that were kept, from what the archive itself knows."""

from dataclasses import dataclass

import polars as pl

from aitax_ray.gbif.archive import KEY, Archive

LINEAGE = ("genus", "family", "order", "class", "phylum", "kingdom")
NAMES = ("species", "scientificName", "acceptedScientificName", "taxonKey", "acceptedTaxonKey", "taxonRank")
PLACE_AND_TIME = {
    "decimalLatitude": "decimal_latitude",
    "decimalLongitude": "decimal_longitude",
    "coordinateUncertaintyInMeters": "coordinate_uncertainty_m",
    "eventDate": "event_date",
    "countryCode": "country_code",
    "basisOfRecord": "basis_of_record",
    "recordedBy": "recorded_by",
    "datasetKey": "dataset_key",
}
LIMITS = {"decimal_latitude": (-90, 90), "decimal_longitude": (-180, 180), "coordinate_uncertainty_m": (0, 4.1e7)}


def read_occurrences(archive: Archive, media: pl.DataFrame) -> pl.DataFrame:
    """The occurrences of the photographs, sorted by gbif_id: the columns of schemas.OCCURRENCES, and those of names.

    Coordinates that are no numbers, or off the globe, are null.
    """
    wanted = media.lazy().select(pl.col("gbif_id").alias(KEY)).unique()
    rows = archive.occurrences(["speciesKey", *PLACE_AND_TIME, *NAMES, "vernacularName", *LINEAGE])
    found = archive.read(
        rows.join(wanted, on=KEY, how="semi").unique(subset=[KEY], keep="first", maintain_order=True).sort(KEY)
    ).rename({KEY: "gbif_id", "speciesKey": "species_key", **PLACE_AND_TIME})
    numbers = [pl.col(name).str.strip_chars().cast(pl.Float64, strict=False).alias(name) for name in LIMITS]
    found = found.with_columns(pl.col("species_key").str.strip_chars(), *numbers)
    return found.with_columns(
        pl.when(pl.col(name).is_between(*limits)).then(pl.col(name)).alias(name) for name, limits in LIMITS.items()
    )


def taxa(occurrences: pl.DataFrame, media: pl.DataFrame) -> pl.DataFrame:
    """The species of the photographs, sorted by species_key: the columns of schemas.TAXA.

    Where occurrences differ, the most frequent text wins. `occurrences` as `read_occurrences` gives them.
    """
    species = pl.col("species_key")
    # The name that has authorship is the one whose taxon is the species itself, not a synonym or a subspecies of it.
    accepted = (pl.col("acceptedTaxonKey") == species) & (pl.col("acceptedScientificName") != "")
    own = (pl.col("taxonKey") == species) | (
        (pl.col("taxonRank").str.to_uppercase() == "SPECIES") & (pl.col("acceptedTaxonKey") == "")
    )
    scientific = (
        pl.when(accepted)
        .then(pl.col("acceptedScientificName"))
        .when(own)
        .then(pl.col("scientificName"))
        .otherwise(pl.lit(""))
    )
    rows = (
        occurrences.with_columns(scientific_name=scientific, name=pl.col("species"))
        .group_by("species_key")
        .agg(
            *(_usual(name) for name in ("name", "scientific_name", *LINEAGE)),
            _usual("vernacularName").alias("vernacular_name"),
            num_occurrences=pl.len(),
        )
        .join(media.group_by("species_key").agg(num_images=pl.len()), on="species_key")
        .sort("species_key")
    )
    split = [split_name(name, full) for name, full in zip(rows["name"], rows["scientific_name"], strict=True)]
    return rows.with_columns(
        name=pl.Series([s.name for s in split], dtype=pl.String),
        authorship=pl.Series([s.authorship for s in split], dtype=pl.String),
        scientific_name=pl.Series([s.scientific_name for s in split], dtype=pl.String),
        rank=pl.lit("SPECIES"),
    )


def _usual(name: str) -> pl.Expr:
    return pl.col(name).filter(pl.col(name) != "").mode().min().fill_null("").alias(name)


@dataclass(frozen=True)
class Name:
    """A species' name in its three forms."""

    name: str
    authorship: str
    scientific_name: str


def split_name(name: str, scientific_name: str) -> Name:
    """Part a scientific name into canonical name and authorship, given the canonical name.

    Hybrid signs and a subgenus in brackets do not count: "Salix × fragilis L." has the name "Salix fragilis". A
    scientific name of another taxon (a synonym) is not used.
    """
    name, scientific_name = " ".join(name.split()), " ".join(scientific_name.split())
    if not name or not scientific_name:
        return Name(name or scientific_name, "", scientific_name or name)
    words, rest = scientific_name.split(), name.split()
    while words and rest:
        word = words.pop(0)
        if word.lstrip("×") == rest[0]:
            rest.pop(0)
        elif word != "×" and not (word.startswith("(") and word.endswith(")")):
            return Name(name, "", name)
    return Name(name, "", name) if rest else Name(name, " ".join(words), scientific_name)
