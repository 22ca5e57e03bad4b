"""Which media rows become photographs of the manifest, and why the others do not.

Pure: tables in, tables out. A candidate is a media row with its occurrence's species; `settle` sends every candidate
either to the manifest or, with one reason, to the dropped rows.
"""

import hashlib

import polars as pl

from aitax_ray.gbif.archive import KEY, Archive
from aitax_ray.schemas import image_id

# Why a row is dropped; the first that holds counts, in this order.
NOT_A_PHOTOGRAPH = "not_a_photograph"
NO_URL = "no_url"
BAD_URL_SCHEME = "bad_url_scheme"
ORPHAN = "orphan"
NO_SPECIES_KEY = "no_species_key"
URL_UNDER_SEVERAL_SPECIES = "url_under_several_species"
DUPLICATE_URL = "duplicate_url"
OVER_NUMBER = "over_number"

MEDIA_COLUMNS = ("type", "format", "identifier", "references", "license", "creator", "rightsHolder", "publisher")
BLANKS = " \t\r\n\v\f\x00\u00a0\u200b\ufeff"


def candidates(archive: Archive) -> pl.DataFrame:
    """Give every media row its URL and its species, and a reason where it can be no photograph.

    INPUT   multimedia (core_id, MEDIA_COLUMNS), occurrences (core_id, speciesKey, datasetKey)
    OUTPUT  a row per media row: row, the columns of schemas.MEDIA but image_id, reason ("" for a candidate)
    """
    occurrences = (
        archive.occurrences(["speciesKey", "datasetKey"])
        .filter(pl.col(KEY) != "")
        # GBIF has been seen to list an occurrence twice in one download (gbif/occurrence#1061).
        .unique(subset=[KEY], keep="first", maintain_order=True)
        .with_columns(pl.col("speciesKey").str.strip_chars(BLANKS), found=pl.lit(True))
    )
    rows = archive.media(MEDIA_COLUMNS).join(occurrences, on=KEY, how="left", maintain_order="left")
    references = pl.col("references").str.strip_chars(BLANKS)
    url = pl.col("identifier").str.strip_chars(BLANKS)
    # GBIF moves the URL of a photograph to `references` when it does not know the MIME type.
    url = pl.when(url == "").then(references).otherwise(url).str.replace_all(" ", "%20", literal=True)
    return archive.read(
        rows.with_columns(url=url)
        .with_columns(reason=_unusable())
        .select(
            "row",
            "url",
            "license",
            "creator",
            "publisher",
            "format",
            "reason",
            gbif_id=pl.col(KEY),
            species_key=pl.col("speciesKey").fill_null(""),
            rights_holder=pl.col("rightsHolder"),
            dataset_key=pl.col("datasetKey").fill_null(""),
            references=references,
        )
    )


def _unusable() -> pl.Expr:
    kind = pl.col("type").str.strip_chars(BLANKS).str.to_lowercase()
    image = pl.col("format").str.strip_chars(BLANKS).str.to_lowercase().str.starts_with("image/")
    photograph = (kind == "stillimage") | ((kind == "") & image)
    return (
        pl.when(~photograph)
        .then(pl.lit(NOT_A_PHOTOGRAPH))
        .when(pl.col("url") == "")
        .then(pl.lit(NO_URL))
        .when(~pl.col("url").str.contains(r"(?i)^https?://[^/?#]"))
        .then(pl.lit(BAD_URL_SCHEME))
        .when(pl.col("found").is_null())
        .then(pl.lit(ORPHAN))
        .when(pl.col("speciesKey") == "")
        .then(pl.lit(NO_SPECIES_KEY))
        .otherwise(pl.lit(""))
    )


def settle(rows: pl.DataFrame, number: int | None, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Part candidates into photographs, sorted by image_id, and dropped rows, in their order.

    A URL under several species tells nothing of any of them: all go. Of a URL's rows in one species the first by
    (gbif_id, row) stays. Of more than `number` photographs of a species those stay whose hash of (seed, image_id) is
    least, whatever else the archive holds.
    """
    left = rows.filter(pl.col("reason") == "").sort("gbif_id", "row")
    left = left.with_columns(
        reason=pl.when(pl.col("species_key").n_unique().over("url") > 1)
        .then(pl.lit(URL_UNDER_SEVERAL_SPECIES))
        .when(~pl.col("url").is_first_distinct())
        .then(pl.lit(DUPLICATE_URL))
        .otherwise(pl.lit(""))
    )
    media = left.filter(pl.col("reason") == "")
    media = media.with_columns(image_id=pl.Series([image_id(u) for u in media["url"]], dtype=pl.String))
    dropped = [rows.filter(pl.col("reason") != ""), left.filter(pl.col("reason") != "")]
    if number is not None:
        draw = [hashlib.sha1(f"{seed}/{i}".encode(), usedforsecurity=False).hexdigest() for i in media["image_id"]]
        media = media.with_columns(draw=pl.Series(draw, dtype=pl.String)).sort("draw")
        over = pl.int_range(pl.len()).over("species_key") >= number
        dropped.append(media.filter(over).with_columns(reason=pl.lit(OVER_NUMBER)).select(rows.columns))
        media = media.filter(~over)
    lost = pl.concat(dropped).sort("row")
    if media.height + lost.height != rows.height:
        raise RuntimeError(f"{rows.height} media rows became {media.height} kept and {lost.height} dropped ones")
    return media.sort("image_id"), lost


def count_reasons(dropped: pl.DataFrame) -> dict[str, int]:
    """How many rows each reason took, the most frequent first."""
    counts = dropped.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
    return dict(counts.iter_rows())


def count_hosts(media: pl.DataFrame) -> int:
    """How many hosts the photographs lie on."""
    hosts = media["url"].str.extract(r"(?i)^https?://([^/?#]+)").str.to_lowercase().drop_nulls()
    return hosts.n_unique()
