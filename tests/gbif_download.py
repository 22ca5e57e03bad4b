"""Archives in the layout of a GBIF download: rows, tables, files; builders for the tests."""

import re
import zipfile
from pathlib import Path

OCCURRENCE_TERMS = re.findall(
    r"\w+",
    "gbifID license datasetKey decimalLatitude decimalLongitude coordinateUncertaintyInMeters eventDate countryCode "
    "basisOfRecord recordedBy identifiedBy identificationVerificationStatus identificationRemarks speciesKey species "
    "scientificName acceptedScientificName taxonKey acceptedTaxonKey "
    "taxonRank vernacularName genus family order class phylum kingdom",
)
MEDIA_TERMS = re.findall(
    r"\w+",
    "gbifID type format identifier references title description source audience created creator contributor "
    "publisher license rightsHolder",
)
Row = dict[str, str]


def occurrence(gbif_id: str, species_key: str = "11", **more: str) -> Row:
    name = {"11": "Rana alba", "12": "Rana nigra"}.get(species_key, "")
    row = {"gbifID": gbif_id, "speciesKey": species_key, "species": name, "taxonKey": species_key}
    row |= {"scientificName": f"{name} Linnaeus, 1758".strip(), "taxonRank": "SPECIES", "genus": "Rana"}
    return row | {"acceptedTaxonKey": species_key, "acceptedScientificName": row["scientificName"]} | more


def photo(gbif_id: str, identifier: str, **more: str) -> Row:
    return {"gbifID": gbif_id, "type": "StillImage", "format": "image/jpeg", "identifier": identifier} | more


def meta_xml(header_lines: int = 1, multimedia: bool = True, delimiter: str = "\\t", quote: str = "") -> str:
    def table(tag: str, key: str, row_type: str, name: str, terms: list[str]) -> str:
        fields = "".join(f'<field index="{i}" term="http://x.org/terms/{t}"/>' for i, t in enumerate(terms))
        return (
            f'<{tag} encoding="UTF-8" fieldsTerminatedBy="{delimiter}" linesTerminatedBy="\\n" '
            f'fieldsEnclosedBy="{quote}" ignoreHeaderLines="{header_lines}" rowType="{row_type}">'
            f'<files><location>{name}</location></files><{key} index="0"/>{fields}</{tag}>'
        )

    media = table("extension", "coreid", "http://rs.gbif.org/terms/1.0/Multimedia", "multimedia.txt", MEDIA_TERMS)
    core = table("core", "id", "http://rs.tdwg.org/dwc/terms/Occurrence", "occurrence.txt", OCCURRENCE_TERMS)
    return f'<archive xmlns="http://rs.tdwg.org/dwc/text/">{core}{media if multimedia else ""}</archive>'


def table_text(terms: list[str], rows: list[Row], header: bool = True, delimiter: str = "\t", end: str = "\n") -> str:
    lines = [terms] if header else []
    lines += [[row.get(term, "") for term in terms] for row in rows]
    return "".join(delimiter.join(line) + end for line in lines)


def archive_files(occurrences: list[Row], media: list[Row], **more: str | bytes) -> dict[str, str | bytes]:
    """The files of a GBIF download, by name; `more` replaces them or adds others ("." is written "__")."""
    files: dict[str, str | bytes] = {
        "meta.xml": meta_xml(),
        "occurrence.txt": table_text(OCCURRENCE_TERMS, occurrences),
        "multimedia.txt": table_text(MEDIA_TERMS, media),
        "citations.txt": "When using this dataset please use the following citation:\nThe frog list.\n",
        "metadata.xml": '<eml packageId="10.15468/dl.Frogs1"><dataset><alternateIdentifier>0000001-000000000000001'
        "</alternateIdentifier><pubDate> 2026-07-16 </pubDate></dataset></eml>",
    }
    return files | {name.replace("__", "."): content for name, content in more.items()}


def write_folder(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def write_zip(path: Path, files: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path
