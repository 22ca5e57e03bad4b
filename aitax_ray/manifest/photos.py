"""Reads a folder of photographs with a sub-folder per species.

The name of the sub-folder is the key and the name of the species. The file `metadata.csv` at the top may say more. It
has a row per file: the path of the file in the column `file`, and other columns that are named after terms of Darwin
Core and Dublin Core.
"""

import csv
import hashlib
import io
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from unicodedata import normalize

import duckdb
import polars as pl

from aitax_ray.darwin_core.relations import IDENTIFICATION, LINEAGE, OCCURRENCE_COLUMNS, PLACE_AND_TIME
from aitax_ray.darwin_core.scientific_names import canonical_name
from aitax_ray.errors import DataError
from aitax_ray.manifest.media import NO_LABEL_KEY
from aitax_ray.schemas import image_id
from aitax_ray.text import decode_file_name

log = logging.getLogger(__name__)

NOT_AN_IMAGE_FILE = "not_an_image_file"
OUTSIDE_THE_FOLDER = "outside_the_folder"
LINKED_FOLDER = "linked_folder"

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".heic"})
METADATA = "metadata.csv"
# Our columns, and the columns of metadata.csv that fill them.
_LICENSE_TERMS = ("license", "WebStatement", "UsageTerms", "rights")  # all are read, as in an archive
_TERMS = {
    "creator": "creator",
    "rights_holder": "rightsHolder",
    "publisher": "publisher",
    "dataset_key": "datasetKey",
    "format": "format",
    "references": "references",
    "title": "title",
    "description": "description",
    "vernacular_name": "vernacularName",
    **{name: terms[0] for name, terms in (PLACE_AND_TIME | IDENTIFICATION | LINEAGE).items()},
}
_MEDIA = (
    "url",
    "gbif_id",
    "species_key",
    "license",
    "creator",
    "rights_holder",
    "publisher",
    "dataset_key",
    "format",
    "references",
    "title",
    "description",
)
_COLUMNS = tuple(dict.fromkeys((*_MEDIA, *OCCURRENCE_COLUMNS, "reason")))
LAYOUT = "it must hold a sub-folder per species, named after the species, with the photographs in it"


def read_folder(folder: Path, database: duckdb.DuckDBPyConnection) -> int:
    """Make the tables `candidate` and `occurrence` of the files below `folder`, and return the number of files.

    The tables have the columns of those that `media.list_candidates` and `relations.link_media` make. `row` is the
    position of a file in the order of all paths. What neither the folder nor metadata.csv says is "", so that a licence
    that is not given stays unknown. Raises DataError when there is no photograph in a sub-folder, or metadata.csv
    cannot be used.
    """
    top = folder.resolve()
    metadata = _read_metadata(top)
    paths = list(walk(top))
    rows = [_row(number, path, top, metadata) for number, path in enumerate(paths)]
    found = pl.DataFrame(rows, schema={"row": pl.Int64} | dict.fromkeys(_COLUMNS, pl.String))
    if not (found["reason"] == "").any():
        what = "is empty" if found.is_empty() else f"has no photographs among its {found.height:,} files"
        raise DataError(f"{folder} {what}: {LAYOUT}")
    database.register("photo_frame", found)
    database.execute("CREATE TABLE photo AS FROM photo_frame")
    # An occurrence with several photographs takes each value from its first row that has one. The same id in two
    # folders means two occurrences: people who number by hand often start again in each folder.
    texts = ", ".join(
        f'coalesce(first("{name}" ORDER BY row) FILTER ("{name}" <> \'\'), \'\') AS "{name}"'
        for name in OCCURRENCE_COLUMNS
        if name != "species_key"
    )
    database.execute(
        f"CREATE TABLE occurrence AS SELECT min(row) AS row, gbif_id, species_key, {texts} FROM photo "
        "GROUP BY gbif_id, species_key ORDER BY row"
    )
    media = ", ".join(f'p."{name}"' for name in ("row", *_MEDIA, "reason"))
    database.execute(f"""
        CREATE VIEW candidate AS
        SELECT {media}, sha1(url) AS image_id, false AS url_from_references, o.row AS occurrence_row
        FROM photo AS p JOIN occurrence AS o USING (gbif_id, species_key)""")
    unused = metadata.keys() - {row["file"] for row in rows}
    if unused:
        log.warning("%s rows of %s name no file, such as %s", f"{len(unused):,}", METADATA, min(unused))
    undecoded = [str(row["file"]) for row, path in zip(rows, paths, strict=True) if not _is_utf8(path)]
    if undecoded:
        log.warning(
            "%s names of files are not UTF-8 and were read as Windows-1252, such as %s",
            f"{len(undecoded):,}",
            min(undecoded),
        )
    return found.height


def _row(number: int, path: Path, top: Path, metadata: Mapping[str, Mapping[str, str]]) -> dict[str, str | int]:
    inside = path.relative_to(top)
    species_key = " ".join(decode_file_name(inside.parts[0]).split()) if len(inside.parts) > 1 else ""
    reason = _reason(path, top, has_species=species_key != "")
    # A link to another file of the folder counts as that file.
    url = (_real(path) if reason == "" else path).as_uri()
    file = decode_file_name(inside.as_posix())
    own = metadata.get(file, {})
    scientific_name = own.get("scientificName", "")
    named = canonical_name(scientific_name) or " ".join(species_key.replace("_", " ").split())
    return {
        **{column: own.get(term, "") for column, term in _TERMS.items()},
        "license": " | ".join(dict.fromkeys(text for term in _LICENSE_TERMS if (text := own.get(term, "")))),
        "row": number,
        "file": file,
        "url": url,
        "gbif_id": own.get("gbifID") or own.get("occurrenceID") or f"photo-{image_id(url)[:16]}",
        "species_key": species_key,
        "name": named,
        "scientific_name": scientific_name or named,
        "rank": "",
        "reason": reason,
    }


def _read_metadata(top: Path) -> dict[str, dict[str, str]]:
    """Return the rows of metadata.csv by the path of their file; {} when there is no metadata.csv. Raises DataError."""
    path = top / METADATA
    if not path.exists():
        return {}
    try:
        with io.StringIO(_decode_metadata(path.read_bytes(), path), newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = []
            for row in reader:
                if None in row:
                    raise ValueError(f"line {reader.line_num} has more columns than the first line")
                rows.append({str(k).strip(): normalize("NFC", v.strip()) for k, v in row.items() if v is not None})
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}): it must be a CSV file in UTF-8") from error
    if rows and "file" not in rows[0]:
        raise DataError(f"{path} has no column `file`: it must name each file by its path below {top}")
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        name = row["file"] = row.get("file", "").replace("\\", "/").removeprefix("./")
        if found.setdefault(name, row) != row:
            raise DataError(f"{path} has two different rows for the file {name!r}: keep the right one")
    return found


def _decode_metadata(text: bytes, path: Path) -> str:
    """Decode metadata.csv from UTF-8, or else from Windows-1252, in which table programs write."""
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        log.warning("%s is not in UTF-8: it is read as Windows-1252", path)
        return text.decode("cp1252")


def digest(folder: Path) -> str:
    """Return the sha256 of the names, sizes and times of all files. The files are not read: there may be many."""
    total = hashlib.sha256()
    top = folder.resolve()
    for path in [*walk(top), *([top / METADATA] if (top / METADATA).exists() else [])]:
        status = path.lstat() if path.is_symlink() and not path.exists() else path.stat()
        line = f"{path.relative_to(top).as_posix()}\0{status.st_size}\0{status.st_mtime_ns}\n"
        total.update(line.encode(errors="surrogateescape"))
    return total.hexdigest()


def walk(top: Path) -> Iterator[Path]:
    """Yield the files below a folder in the order of their paths. Links to folders are yielded, but not followed."""
    found = []
    for folder, folders, files in os.walk(top):
        found += [path for name in files if (path := Path(folder, name)) != top / METADATA]
        found += [path for name in folders if (path := Path(folder, name)).is_symlink()]
    return iter(sorted(found))


def _reason(path: Path, top: Path, *, has_species: bool) -> str:
    """Return why a file cannot be used, "" when it can."""
    if path.is_symlink() and not _real(path).is_relative_to(top):
        return OUTSIDE_THE_FOLDER
    if path.is_dir():
        return LINKED_FOLDER
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return NOT_AN_IMAGE_FILE
    return "" if has_species else NO_LABEL_KEY.format("species")


def _real(path: Path) -> Path:
    # Unlike Path.resolve, this does not raise when links form a circle.
    return Path(os.path.realpath(path))


def _is_utf8(path: Path) -> bool:
    try:
        os.fsencode(path).decode()
    except UnicodeDecodeError:
        return False
    return True
