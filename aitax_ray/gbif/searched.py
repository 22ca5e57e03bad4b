"""Write occurrences of GBIF's search as the tables of an archive, in the layout of a download."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from aitax_ray.gbif.answer import read_object, read_objects
from aitax_ray.gbif.api import BACKBONE

# fmt: off
OCCURRENCE_TERMS = [
    "gbifID", "datasetKey", "license", "decimalLatitude", "decimalLongitude", "coordinateUncertaintyInMeters",
    "eventDate", "countryCode", "basisOfRecord", "recordedBy", "identifiedBy",
    "identificationVerificationStatus", "identificationRemarks", "vernacularName", "taxonKey", "acceptedTaxonKey",
    "speciesKey", "genusKey", "familyKey", "species", "scientificName", "acceptedScientificName", "taxonRank", "genus",
    "family", "order", "class", "phylum", "kingdom",
]
MEDIA_TERMS = [
    "gbifID", "type", "format", "identifier", "references", "title", "description", "source", "created", "creator",
    "publisher", "license", "rightsHolder",
]
# fmt: on
_CONTROL = re.compile(r"[\t\n\r\x00\x0b\x0c\x85\u2028\u2029]")  # what GBIF replaces by a blank in its downloads

# The terms of an occurrence's taxon, in the keys and names of one checklist: the last ones of the list above.
TAXON_TERMS = OCCURRENCE_TERMS[OCCURRENCE_TERMS.index("taxonKey") :]


def make_row(result: Mapping[str, Any], checklist: str) -> dict[str, Any]:
    """Make a row of a download from an occurrence of the search, with the keys and names of the checklist asked for."""
    row = {**result, "gbifID": result.get("gbifID") or result.get("key")}
    found = read_object(read_object(row, "classifications"), checklist) if checklist else {}
    if found or checklist not in ("", BACKBONE):
        # The keys in the row itself are those of the backbone, whatever checklist was asked for: never mix them.
        usage = read_object(found, "usage")
        accepted = read_object(found, "acceptedUsage") or usage
        row |= dict.fromkeys(TAXON_TERMS)
        row |= {"taxonKey": usage.get("key"), "scientificName": usage.get("name"), "taxonRank": usage.get("rank")}
        row |= {"acceptedTaxonKey": accepted.get("key"), "acceptedScientificName": accepted.get("name")}
        for taxon in read_objects(found, "classification"):
            rank = str(taxon.get("rank") or "").lower()
            row |= {rank: taxon.get("name"), f"{rank}Key": taxon.get("key")}
    return row


def make_line(row: Mapping[str, Any], terms: Sequence[str]) -> str:
    """Make a line of a table, line end included. What GBIF replaces by a blank in downloads is replaced here too."""
    values = ("" if row.get(term) is None else str(row[term]) for term in terms)
    return "\t".join(_CONTROL.sub(" ", value) for value in values) + "\n"


def make_meta_xml(names: Sequence[str]) -> str:
    """Make the descriptor of an archive whose two tables are the files occurrence-NAME.txt and multimedia-NAME.txt."""

    def table(tag: str, key: str, row_type: str, stem: str, terms: Sequence[str]) -> str:
        files = "".join(f"<location>{stem}-{name}.txt</location>" for name in names)
        fields = "".join(f'<field index="{i}" term="{term}"/>' for i, term in enumerate(terms))
        return (
            f'<{tag} encoding="UTF-8" fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy="" '
            f'ignoreHeaderLines="0" rowType="{row_type}"><files>{files}</files><{key} index="0"/>{fields}</{tag}>'
        )

    core = table("core", "id", "http://rs.tdwg.org/dwc/terms/Occurrence", "occurrence", OCCURRENCE_TERMS)
    media = table("extension", "coreid", "http://rs.gbif.org/terms/1.0/Multimedia", "multimedia", MEDIA_TERMS)
    return f'<archive xmlns="http://rs.tdwg.org/dwc/text/">{core}{media}</archive>\n'
