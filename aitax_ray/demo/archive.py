"""Writes a Darwin Core Archive in the layout of a GBIF occurrence download.

The files are tab-separated and unquoted, with a header. The columns are some of GBIF's, in GBIF's order. Terms:
https://dwc.tdwg.org/terms/, https://rs.gbif.org/terms/; layout: https://dwc.tdwg.org/text/.
"""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

DC, DWC, GBIF = "http://purl.org/dc/terms/", "http://rs.tdwg.org/dwc/terms/", "http://rs.gbif.org/terms/1.0/"

OCCURRENCE_TERMS = [
    GBIF + "gbifID",
    *(DC + name for name in ("license", "modified", "publisher", "references", "rightsHolder", "type")),
    *(DWC + name for name in ("institutionCode", "collectionCode", "datasetName", "basisOfRecord", "occurrenceID")),
    *(DWC + name for name in ("catalogNumber", "recordedBy", "individualCount", "occurrenceStatus", "eventDate")),
    *(DWC + name for name in ("year", "month", "day", "countryCode", "decimalLatitude", "decimalLongitude")),
    *(DWC + name for name in ("coordinateUncertaintyInMeters", "identifiedBy", "scientificName", "kingdom", "phylum")),
    *(DWC + name for name in ("class", "order", "family", "genus", "genericName", "specificEpithet", "taxonRank")),
    *(DWC + name for name in ("vernacularName", "taxonomicStatus")),
    *(GBIF + name for name in ("datasetKey", "publishingCountry", "lastInterpreted", "issue", "mediaType")),
    *(GBIF + name for name in ("hasCoordinate", "hasGeospatialIssues", "taxonKey", "acceptedTaxonKey", "speciesKey")),
    *(GBIF + name for name in ("species", "acceptedScientificName", "verbatimScientificName", "protocol")),
]
MULTIMEDIA_TERMS = [
    GBIF + "gbifID",
    *(DC + name for name in ("type", "format", "identifier", "references", "title", "description", "source")),
    *(DC + name for name in ("audience", "created", "creator", "contributor", "publisher", "license", "rightsHolder")),
]
Row = dict[str, str]  # column to value; absent columns are empty

_EML = """<?xml version="1.0" encoding="utf-8"?>
<eml:eml xmlns:eml="https://eml.ecoinformatics.org/eml-2.2.0" packageId={doi} system="http://gbif.org" scope="system"
         xml:lang="en">
  <dataset>
    <alternateIdentifier>{key}</alternateIdentifier>
    <title>GBIF Occurrence Download {title}</title>
    <creator><individualName><surName>aitax demo</surName></individualName></creator>
    <pubDate>{date}</pubDate>
    <language>ENGLISH</language>
    <abstract>
      Invented species, drawn by a program. Everything in the demo world matching the query:
{query}
    </abstract>
  </dataset>
  <additionalMetadata>
    <metadata>
      <gbif>
        <citation identifier={doi}>GBIF Occurrence Download {title} (a demo: not at GBIF.org)</citation>
      </gbif>
    </metadata>
  </additionalMetadata>
</eml:eml>
"""


def write_archive(
    path: Path,
    occurrences: Sequence[Row],
    media: Sequence[Row],
    *,
    doi: str,
    download_key: str,
    created: str,
    datasets: Sequence[tuple[str, str]],
) -> None:
    """Write the zip; `created` is an ISO 8601 time, `datasets` are pairs of a name and a licence URL.

    The same input gives the same bytes.
    """
    query = json.dumps({"MediaType": ["is Still image"]}, indent=2)
    parts = {
        "occurrence.txt": _table(OCCURRENCE_TERMS, occurrences),
        "multimedia.txt": _table(MULTIMEDIA_TERMS, media),
        "meta.xml": _meta(),
        "metadata.xml": _EML.format(
            doi=quoteattr(doi), key=escape(download_key), title=escape(doi), date=created[:10], query=escape(query)
        ),
        "citations.txt": "When using this dataset please use the following citation and pay attention to the rights "
        "documented in rights.txt:\n"
        + "".join(f"{name}. aitax demo. Occurrence dataset, invented.\n" for name, _ in datasets),
        "rights.txt": "".join(f"\nDataset: {name}\nRights as supplied: {url}" for name, url in datasets) + "\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            entry = zipfile.ZipInfo(
                name, date_time=(2026, 1, 1, 0, 0, 0)
            )  # a fixed time: the same input, the same bytes
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)


def _name(term: str) -> str:
    return term.rsplit("/", 1)[1]


def _table(terms: Sequence[str], rows: Sequence[Row]) -> str:
    columns = [_name(term) for term in terms]
    return "".join("\t".join(line) + "\n" for line in [columns, *([row.get(c, "") for c in columns] for row in rows)])


def _meta() -> str:
    core = _describe_table("core", "id", DWC + "Occurrence", "occurrence.txt", OCCURRENCE_TERMS)
    extension = _describe_table("extension", "coreid", GBIF + "Multimedia", "multimedia.txt", MULTIMEDIA_TERMS)
    return f'<archive xmlns="http://rs.tdwg.org/dwc/text/" metadata="metadata.xml">\n{core}{extension}</archive>\n'


def _describe_table(element: str, id_element: str, row_type: str, file: str, terms: Sequence[str]) -> str:
    """The <core> or <extension> element of meta.xml for one table."""
    fields = "".join(f'    <field index="{index}" term="{term}"/>\n' for index, term in enumerate(terms))
    if element == "core":  # GBIF states the datum as a default, not in a column
        fields = f'    <field default="WGS84" term="{DWC}geodeticDatum"/>\n' + fields
    return (
        f'  <{element} encoding="UTF-8" fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy="" '
        f'ignoreHeaderLines="1" rowType="{row_type}">\n'
        f"    <files>\n      <location>{file}</location>\n    </files>\n"
        f'    <{id_element} index="0" />\n{fields}  </{element}>\n'
    )
