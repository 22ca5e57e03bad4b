"""A folder of photographs, a sub-folder per species, as candidates for the manifest."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from aitax_ray.errors import DataError
from aitax_ray.gbif.media import NO_SPECIES_KEY
from aitax_ray.schemas import image_id

NOT_AN_IMAGE_FILE = "not_an_image_file"
OUTSIDE_THE_FOLDER = "outside_the_folder"
LINKED_FOLDER = "linked_folder"

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".heic"})
LAYOUT = "it must hold a sub-folder per species, named after the species, with the photographs in it"


def candidates(folder: Path) -> pl.DataFrame:
    """Every file below `folder` with its URL and its species, and a reason where it can be no photograph.

    OUTPUT  as media.candidates; `row` counts the files in the order of their paths. Who took the photographs, and under
            which licence, is not known and stays "".

    Raises DataError when there is no photograph below a sub-folder.
    """
    top = folder.resolve()
    rows = []
    for row, path in enumerate(walk(top)):
        inside = path.relative_to(top).parts
        reason = _unusable(path, top, has_species=len(inside) > 1)
        # A link within the folder is the photograph it leads to.
        url = (_real(path) if reason == "" else path).as_uri()
        rows.append(
            {
                "row": row,
                "url": url,
                "gbif_id": f"photo-{image_id(url)[:16]}",
                "species_key": _readable(inside[0]) if len(inside) > 1 else "",
                "reason": reason,
            }
        )
    found = pl.DataFrame(
        rows, schema={"row": pl.Int64} | dict.fromkeys(("url", "gbif_id", "species_key", "reason"), pl.String)
    )
    if not (found["reason"] == "").any():
        what = "is empty" if found.is_empty() else f"has no photographs among its {found.height:,} files"
        raise DataError(f"{folder} {what}: {LAYOUT}")
    unknown = ("license", "creator", "rights_holder", "publisher", "dataset_key", "format", "references")
    return found.with_columns(pl.lit("").alias(name) for name in unknown)


def occurrences(media: pl.DataFrame) -> pl.DataFrame:
    """An occurrence per photograph, as far as a folder tells: the columns of schemas.OCCURRENCES."""
    numbers = ("decimal_latitude", "decimal_longitude", "coordinate_uncertainty_m")
    texts = ("event_date", "country_code", "basis_of_record", "recorded_by", "dataset_key")
    return (
        media.select("gbif_id", "species_key")
        .sort("gbif_id")
        .with_columns(pl.lit(None, pl.Float64).alias(name) for name in numbers)
        .with_columns(pl.lit("").alias(name) for name in texts)
    )


def taxa(media: pl.DataFrame) -> pl.DataFrame:
    """The species of the photographs, sorted by species_key: the columns of schemas.TAXA.

    The folder's name is key and name both, underscores being blanks in the name.
    """
    unknown = ("authorship", "rank", "vernacular_name", "genus", "family", "order", "class", "phylum", "kingdom")
    counted = media.group_by("species_key").agg(
        num_occurrences=pl.col("gbif_id").n_unique().cast(pl.Int64), num_images=pl.len().cast(pl.Int64)
    )
    name = pl.col("species_key").str.replace_all("_", " ", literal=True).str.strip_chars()
    return (
        counted.sort("species_key")
        .with_columns(name=name, scientific_name=name)
        .with_columns(pl.lit("").alias(column) for column in unknown)
    )


def digest(folder: Path) -> str:
    """sha256 over the names, sizes and times of the files: it does not read them, which may be many."""
    total = hashlib.sha256()
    top = folder.resolve()
    for path in walk(top):
        status = path.lstat() if path.is_symlink() and not path.exists() else path.stat()
        line = f"{path.relative_to(top).as_posix()}\0{status.st_size}\0{status.st_mtime_ns}\n"
        total.update(line.encode(errors="surrogateescape"))
    return total.hexdigest()


def walk(top: Path) -> Iterator[Path]:
    """The files below a folder, and the links to folders, which are not entered; in the order of their paths."""
    found = []
    for folder, folders, files in os.walk(top):
        found += [Path(folder, name) for name in files]
        found += [path for name in folders if (path := Path(folder, name)).is_symlink()]
    return iter(sorted(found))


def _unusable(path: Path, top: Path, *, has_species: bool) -> str:
    if path.is_symlink() and not _real(path).is_relative_to(top):
        return OUTSIDE_THE_FOLDER
    if path.is_dir():
        return LINKED_FOLDER
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return NOT_AN_IMAGE_FILE
    return "" if has_species else NO_SPECIES_KEY


def _real(path: Path) -> Path:
    # Path.resolve raises on links that go in circles.
    return Path(os.path.realpath(path))


def _readable(name: str) -> str:
    """A file name as text that can be stored, whatever bytes it is made of."""
    return os.fsencode(name).decode(errors="replace")
