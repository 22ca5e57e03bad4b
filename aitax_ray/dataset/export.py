"""`aitax export`: the photographs of the split for other programs: as folders, tars or a table.

images/*.parquet    INPUT row:  image_id, jpeg, ...           read file by file, a few hundred rows at a time
imagefolder         OUT/<split>/<species>/<image_id>.jpg, OUT/<split>/metadata.csv, OUT/classes.json
webdataset          OUT/<split>-000000.tar: <image_id>.jpg, .cls, .json; OUT/classes.json
csv                 OUT/photographs.csv

OUT/export.json is written first: a later run reads it to check that the folder belongs to this export, and continues.
The tables hold the texts as they are, so that nothing is lost on the way back; a spreadsheet may take such a text for a
formula, so open split/attribution.csv there instead.
"""

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pyarrow.fs as pafs
from pydantic import Field, field_validator

from aitax_ray import workspace
from aitax_ray.dataset.attribution import LINEAGE, csv_lines, describe, read_split, require_split
from aitax_ray.dataset.folder_names import folder_names
from aitax_ray.dataset.output import (
    MARK,
    SPOOL,
    begin,
    explain_write_errors,
    open_atomically,
    refuse_others,
    write_json,
)
from aitax_ray.dataset.tars import collect, read_spool, write_tar
from aitax_ray.errors import DataError, SettingsError
from aitax_ray.joins import join_rows
from aitax_ray.progress import progress
from aitax_ray.settings import Settings
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)

CLASSES, METADATA, TABLE = "classes.json", "metadata.csv", "photographs.csv"
ROWS_PER_BATCH = 256  # photographs in memory at a time
PLACE_AND_TIME = {
    "decimal_latitude": "decimalLatitude",
    "decimal_longitude": "decimalLongitude",
    "coordinate_uncertainty_m": "coordinateUncertaintyInMeters",
    "event_date": "eventDate",
    "country_code": "countryCode",
    "basis_of_record": "basisOfRecord",
    "recorded_by": "recordedBy",
}
# The columns of a row, and the terms of Darwin Core and Dublin Core by which metadata.csv calls them.
TERMS = {
    "url": "identifier",
    "gbif_id": "gbifID",
    "dataset_key": "datasetKey",
    "species_key": "speciesKey",
    "species": "species",
    "scientific_name": "scientificName",
    "vernacular_name": "vernacularName",
    **{rank: rank for rank in LINEAGE},
    "license": "license",
    "creator": "creator",
    "rights_holder": "rightsHolder",
    "publisher": "publisher",
    "references": "references",
    "title": "title",
    "description": "description",
    **PLACE_AND_TIME,
}
OWN = ("image_id", "split", "class_index", "license_id", "license_url", "occurrence", "group", "trust", "weight")
COLUMNS = (*OWN[:3], *TERMS, *OWN[3:])


class ExportSettings(Settings):
    """Settings of `export`."""

    root: str
    """Folder, or URL such as s3://bucket/name, that holds everything this project made."""
    to: Literal["imagefolder", "webdataset", "csv"]
    """One folder per species (for torchvision, Hugging Face, --photos), tar files, or a table and no photographs."""
    output: Annotated[str, Field(min_length=1)]
    """Local folder to write to: new, empty, or of an export that stopped, which goes on."""
    splits: Annotated[tuple[Literal["train", "val", "test"], ...], Field(min_length=1)] = ("train", "val", "test")
    """Which sides of the split to write."""
    shard_size: Annotated[int, Field(ge=1)] = 1000
    """Photographs per tar file of webdataset, all held in memory at once."""

    @field_validator("output")
    @classmethod
    def _is_local(cls, output: str) -> str:
        if "://" in output:
            raise ValueError(f"{output} is a URL, and this must be a local folder: copy it from there")
        return output


def export(settings: ExportSettings) -> dict[str, int]:
    """Write the photographs of the split for other programs.

    Reads split/, manifest/ and images/; writes below --output, and gives counts: photographs, species, and what is
    missing, the photographs of the split that images/ does not hold. Each file appears complete or not at all. Raises
    SettingsError, MissingArtifactError, StaleArtifactError, DataError when there is no photograph, and StorageError
    when the folder holds something else or is full.
    """
    ws, out = Workspace(settings.root), Path(settings.output).expanduser().absolute()
    _check_apart(ws, out)
    require_split(ws)
    rows = read_split(ws, settings.splits)
    if rows.is_empty():
        raise DataError(f"the split has no photographs in {', '.join(settings.splits)}: take other --splits")
    counts = {"photographs": rows.height, "species": rows["species_key"].n_unique()}
    mark: dict[str, Any] = {"to": settings.to, "splits": sorted(set(settings.splits)), "split": ws.digest("split")}
    if settings.to != "csv":
        mark["images"] = ws.require("download").fingerprint
        stored = _stored(ws, rows)
        counts = {
            "photographs": stored.height,
            "species": stored["species_key"].n_unique(),
            "missing": rows.height - stored.height,
        }
        rows = stored
    if settings.to == "webdataset":  # what is in which tar depends on all of it
        mark |= {"shard_size": settings.shard_size, "photographs": rows.height}
    with explain_write_errors(out):
        existing = begin(out, mark)
        if settings.to == "imagefolder":
            _write_folders(ws, rows, out, existing)
        elif settings.to == "webdataset":
            _write_tars(ws, rows, out, existing, settings.shard_size)
        else:
            refuse_others(out, existing, {TABLE})
            _write_table(ws, rows, out / TABLE)
        write_json(out / MARK, mark | {"complete": True, "counts": counts})
    log.info("%s: %s", out, "; ".join(f"{number:,} {name}" for name, number in counts.items()))
    if counts.get("missing"):
        log.warning(
            "%s photographs of the split are not in images/ and were left out: `aitax download --root %s` may get them",
            f"{counts['missing']:,}",
            settings.root,
        )
    return counts


def _stored(ws: Workspace, rows: "pl.DataFrame") -> "pl.DataFrame":
    """Find the rows whose photograph is in images/, with its `file`, in the order of image_id."""
    import polars as pl

    held = [pl.DataFrame(schema={"image_id": pl.String, "file": pl.String})]
    for file in ws.storage.files(workspace.IMAGES, ".parquet"):
        ids: Any = pl.from_arrow(ws.storage.read_table(file.path, ["image_id"]))
        held.append(ids.with_columns(file=pl.lit(file.path)))
    stored = pl.concat(held).unique("image_id", keep="first")
    found = rows.join(stored, on="image_id", validate="1:1").sort("image_id")
    if found.is_empty():
        raise DataError(f"images/ holds none of the split's photographs: run `aitax download --root {ws.root}`")
    return found


def _photographs(ws: Workspace, todo: "pl.DataFrame") -> Iterator["pl.DataFrame"]:
    """The photographs of `todo` (image_id, file and more), a few hundred rows of it at a time with their `jpeg`."""
    import polars as pl

    for (file,), rows in todo.group_by("file", maintain_order=True):
        for table in ws.storage.read_batches(str(file), ["image_id", "jpeg"], ROWS_PER_BATCH):
            yield pl.DataFrame(table).join(rows, on="image_id", validate="m:1")


def _details(ws: Workspace, rows: "pl.DataFrame") -> Iterator["pl.DataFrame"]:
    """Join `rows` with all metadata, in batches: COLUMNS, and the other columns of `rows`."""
    import polars as pl

    keys, names = ["gbif_id", "species_key"], list(PLACE_AND_TIME)
    used = rows.select(keys).unique()
    found = [
        pl.DataFrame(table).join(used, on=keys, how="semi")
        for table in ws.storage.read_batches(workspace.OCCURRENCES, keys + names, 1 << 18)
    ]
    empty = pl.DataFrame(schema=dict.fromkeys(keys + names, pl.String))
    occurrences = pl.concat(found).unique(keys, keep="first", maintain_order=True) if found else empty
    for batch in describe(ws, rows):
        joined = batch.join(occurrences, on=keys, how="left", validate="m:1", maintain_order="left")
        yield joined.select(*COLUMNS, *(name for name in rows.columns if name not in COLUMNS))


def _write_folders(ws: Workspace, rows: "pl.DataFrame", out: Path, existing: "pl.Series") -> None:
    import polars as pl

    folders = _write_classes(ws, out)
    folder = pl.col("species_key").replace_strict(folders, return_dtype=pl.String)
    rows = rows.with_columns(file_name=pl.concat_str(folder, pl.lit("/"), "image_id", pl.lit(".jpg")))
    rows = rows.with_columns(path=pl.concat_str("split", pl.lit("/"), "file_name"))
    sides = rows["split"].unique().to_list()
    refuse_others(out, existing, {CLASSES, *(f"{side}/{METADATA}" for side in sides)}, rows["path"])
    todo = rows.filter(~pl.col("path").is_in(existing.implode()))
    for folder_path in todo["path"].str.replace(r"/[^/]*$", "").unique():
        (out / folder_path).mkdir(parents=True, exist_ok=True)
    with progress("exporting", todo.height, "photographs") as advance:
        for batch in _photographs(ws, todo):
            for path, jpeg in batch.select("path", "jpeg").iter_rows():
                with open_atomically(out / path) as file:
                    file.write(jpeg)
            advance(batch.height)
    _write_metadata(ws, rows, out, sides)


def _write_metadata(ws: Workspace, rows: "pl.DataFrame", out: Path, sides: list[str]) -> None:
    """Write metadata.csv per side: `file_name` is what Hugging Face reads, `file` what `manifest --photos` reads.

    Hugging Face guesses types, and refuses to load sides together that differ: it takes a column without a value for
    numbers. So an unknown text is written as a blank in the first row. `manifest` reads a blank as no value.
    """
    import polars as pl

    named = [pl.col("file_name"), pl.col("file_name").alias("file"), pl.lit("image/jpeg").alias("format")]
    named += [pl.col(column).alias(term) for column, term in TERMS.items()]
    with contextlib.ExitStack() as stack:
        files = {side: stack.enter_context(open_atomically(out / side / METADATA)) for side in sides}
        begun = set()
        for batch in _details(ws, rows):
            for (side,), group in batch.group_by("split", maintain_order=True):
                part = group.select(named)
                if side not in begun:
                    first = part.head(1).with_columns(pl.col(pl.String).fill_null("").replace("", " "))
                    part = pl.concat([first, part.slice(1)])
                files[str(side)].write(csv_lines(part, header=side not in begun))
                begun.add(side)


def _write_table(ws: Workspace, rows: "pl.DataFrame", path: Path) -> None:
    with progress("exporting", rows.height, "photographs") as advance, open_atomically(path) as file:
        for number, batch in enumerate(_details(ws, rows)):
            file.write(csv_lines(batch, header=number == 0))
            advance(batch.height)


def _write_tars(ws: Workspace, rows: "pl.DataFrame", out: Path, existing: "pl.Series", shard_size: int) -> None:
    """Write tars of `shard_size` photographs in the order of image_id, a hash: neighbours are of different species.

    The stored photographs are in another order. So they first go to a spool, one file per
    tar, and each file is then sorted.
    """
    import polars as pl

    _write_classes(ws, out)
    place = pl.int_range(pl.len()).over("split") // shard_size
    number = place.cast(pl.String).str.zfill(6)
    rows = rows.with_columns(tar=pl.concat_str("split", pl.lit("-"), number, pl.lit(".tar")))
    refuse_others(out, existing, {CLASSES}, rows["tar"].unique())
    todo = rows.filter(~pl.col("tar").is_in(existing.implode()))
    spool = out / SPOOL
    try:
        if todo.height:
            spool.mkdir()
            with progress("collecting", todo.height, "photographs") as advance:
                for batch in _photographs(ws, todo):
                    collect(spool, batch)
                    advance(batch.height)
            for count, batch in enumerate(_details(ws, todo)):
                for (name,), part in batch.group_by("tar"):
                    part.write_parquet(spool / f"{name}.{count:06}.parquet")
            with progress("exporting", todo.height, "photographs") as advance:
                for (name,), part in todo.group_by("tar", maintain_order=True):
                    tar = str(name)
                    details = pl.concat([pl.read_parquet(path) for path in sorted(spool.glob(f"{tar}.*.parquet"))])
                    with open_atomically(out / tar) as file:
                        write_tar(file, read_spool(spool / tar), details.drop("tar", "file"))
                    for path in spool.glob(f"{tar}*"):
                        path.unlink()
                    advance(part.height)
    finally:
        shutil.rmtree(spool, ignore_errors=True)


def _write_classes(ws: Workspace, out: Path) -> dict[str, str]:
    """Write classes.json, the species of the whole split by class_index; gives their folders by species_key."""
    import polars as pl

    columns = ["species_key", "name", "scientific_name"]
    taxa: Any = pl.from_arrow(ws.storage.read_table(workspace.TAXA, columns))
    classes = read_split(ws).select("class_index", "species_key").unique().sort("class_index")
    classes = join_rows(classes, taxa, "species_key", workspace.TAXA, how="left").fill_null("")
    folders = folder_names(dict(classes.select("species_key", "name").iter_rows()))
    write_json(out / CLASSES, [row | {"folder": folders[row["species_key"]]} for row in classes.to_dicts()])
    return folders


def _check_apart(ws: Workspace, out: Path) -> None:
    if isinstance(ws.storage.fs, pafs.LocalFileSystem):
        for folder in (folder for folders in workspace.FOLDERS.values() for folder in folders):
            if out.resolve().is_relative_to(Path(ws.storage.full(folder)).resolve()):
                raise SettingsError(f"--output: {out} is where a stage writes, and may delete: take another folder")
