"""Describes the data set in Croissant 1.0, so that other tools find its files, its records and how they join.

JSON-LD after https://docs.mlcommons.org/croissant/docs/croissant-spec.html.
"""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from aitax_ray import schemas, workspace
from aitax_ray.licenses import deed

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{
        name: f"cr:{name}"
        for name in (
            "citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet",
            "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
            "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField",
            "transform",
        )
    },
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}  # fmt: skip
PARQUET = "application/x-parquet"
# The files with their descriptions. Missing files are left out.
FILES = {
    workspace.SPLIT: (PARQUET, "The photographs used: their species, class and side."),
    workspace.EXCLUDED: (PARQUET, "The stored photographs that are not used, each with the reason."),
    workspace.ATTRIBUTION: ("text/csv", "Whom to credit for each photograph, and its licence."),
    workspace.TAXA: (PARQUET, "The species: names and classification."),
}
IMAGE_FILES = "image-files"  # no id may stand for two things, and `images` are the records
SIDES = {"train": "cr:TrainingSplit", "val": "cr:ValidationSplit", "test": "cr:TestSplit"}


@dataclass(frozen=True)
class File:
    """What Croissant asks of a file."""

    sha256: str  # hex
    size: int  # bytes


def croissant(
    facts: dict[str, Any], files: Mapping[str, File], folder: str = posixpath.dirname(workspace.CROISSANT)
) -> dict[str, Any]:
    """Describe the data set of these facts (`facts.gather`), with the files that are there: path under the root -> it.

    Licences are those of the photographs used, the commonest first, as URLs where they have one. Paths are relative to
    `folder`, where the description is to lie: "" is the root, as for a data set that is published. `mlcroissant` reads
    the photographs only from there, since its patterns do not climb out of the folder.
    """
    summary, query = facts["species_summary"], facts["query"]
    images = sum(side["num_images"] for side in facts["sides"].values())
    doi = f"https://doi.org/{query['doi']}" if query["doi"] else ""
    names = ", ".join(row["name"] or row["species_key"] for row in facts["species"][:5])
    more = " and others" if summary["num"] > 5 else ""
    kept = "Photographs that belong together are on one side of the split."
    if facts["num_groups_parted"]:
        kept = "The split parts some photographs that belong together."
    described = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": f"Photographs of {summary['num']} species",
        "description": f"{images} photographs of {summary['num']} species ({names}{more}) to train and test their "
        f"identification with. {kept}",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "citeAs": query["citation"],
        "license": [url for entry in facts["licenses"]["top"] if (url := deed(entry["name"]))],
        "url": doi or "https://www.gbif.org",
        "sameAs": doi,
        "creator": {"@type": "sc:Organization", "name": "The people and publishers named in attribution.csv"},
        "datePublished": facts["created"][:10],
        "version": "1.0.0",
        "isLiveDataset": False,
        "distribution": [
            *(_file_object(path, files[path], folder) for path in FILES if path in files),
            _image_files(folder),
        ],
        "recordSet": _record_sets(files),
    }
    return {name: value for name, value in described.items() if value != ""}


def _path(path: str, folder: str) -> str:
    return posixpath.relpath(path, folder or ".")


def _file_object(path: str, file: File, folder: str) -> dict[str, Any]:
    encoding, description = FILES[path]
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": posixpath.basename(path),
        "description": description,
        "contentUrl": _path(path, folder),
        "contentSize": f"{file.size} B",
        "encodingFormat": encoding,
        "sha256": file.sha256,
    }


def _image_files(folder: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": IMAGE_FILES,
        "name": IMAGE_FILES,
        "description": "The photographs themselves, upright RGB JPEGs with their sizes.",
        "encodingFormat": PARQUET,
        "includes": _path(f"{workspace.IMAGES}/*.parquet", folder),
    }


def _record_sets(files: Mapping[str, File]) -> list[dict[str, Any]]:
    sides = _record_set("splits", "name", "The sides of the split.", [_field("splits", "name", "sc:Text")])
    sides["field"].append(_field("splits", "url", "sc:URL"))
    rows = [{"splits/name": side, "splits/url": kind} for side, kind in SIDES.items()]
    sides |= {"dataType": "cr:Split", "data": rows}
    images = _table(
        "images", {"fileSet": {"@id": IMAGE_FILES}}, schemas.IMAGES, ["image_id", "width", "height", "jpeg"]
    )
    used = _table("photographs", _file(workspace.SPLIT), schemas.SPLIT, schemas.SPLIT.names)
    _refer(used, "photographs/split", "splits/name")
    excluded = _table("excluded", _file(workspace.EXCLUDED), schemas.EXCLUDED, schemas.EXCLUDED.names)
    # The join with the files of photographs stands apart: whoever wants the tables alone need not read those.
    columns = ["image_id", "species_key", "class_index", "split"]
    labelled = _table("labelled_images", _file(workspace.SPLIT), schemas.SPLIT, columns)
    _refer(labelled, "labelled_images/image_id", "images/image_id")
    labelled.append(_field("labelled_images", "jpeg", "sc:ImageObject", {"field": {"@id": "images/jpeg"}}))
    found = [
        sides,
        _record_set("photographs", "image_id", "The photographs used.", used),
        _record_set("excluded", "image_id", "The photographs stored that are not used.", excluded),
        _record_set("images", "image_id", "The photographs as stored.", images),
        _record_set("labelled_images", "image_id", "The photographs used, with their species and side.", labelled),
    ]
    if workspace.TAXA in files:
        taxa = _table("species", _file(workspace.TAXA), schemas.TAXA, ["species_key", "name", "vernacular_name"])
        found.append(_record_set("species", "species_key", "The species.", taxa))
        _refer(used, "photographs/species_key", "species/species_key")
    return found


def _record_set(name: str, key: str, description: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        "key": {"@id": f"{name}/{key}"},
        "field": fields,
    }


def _table(name: str, source: dict[str, Any], schema: pa.Schema, columns: list[str]) -> list[dict[str, Any]]:
    types = {
        pa.int32(): "sc:Integer",
        pa.int64(): "sc:Integer",
        pa.float32(): "sc:Float",
        pa.binary(): "sc:ImageObject",
    }
    return [
        _field(name, column, types.get(schema.field(column).type, "sc:Text"), source | {"extract": {"column": column}})
        for column in columns
    ]


def _field(record_set: str, name: str, data_type: str, source: dict[str, Any] | None = None) -> dict[str, Any]:
    field = {"@type": "cr:Field", "@id": f"{record_set}/{name}", "name": name, "dataType": data_type}
    return field | ({"source": source} if source else {})


def _file(path: str) -> dict[str, Any]:
    return {"fileObject": {"@id": path}}


def _refer(fields: list[dict[str, Any]], field: str, target: str) -> None:
    next(found for found in fields if found["@id"] == field)["references"] = {"field": {"@id": target}}
