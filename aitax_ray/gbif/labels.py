"""What a photograph is labelled with: its species, genus, family, or the accepted taxon as it was identified."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aitax_ray.gbif.scientific_names import binomial, canonical_name

Label = Literal["species", "genus", "family", "accepted-taxon"]


@dataclass(frozen=True)
class LabelTerms:
    """Where a label stands in an occurrence of GBIF: the terms of its key and of its name; its rank, "" for any."""

    key: str
    name: str
    rank: str


LABELS: dict[Label, LabelTerms] = {
    "species": LabelTerms("speciesKey", "species", "SPECIES"),
    "genus": LabelTerms("genusKey", "genus", "GENUS"),
    "family": LabelTerms("familyKey", "family", "FAMILY"),
    "accepted-taxon": LabelTerms("acceptedTaxonKey", "", ""),
}
# What `name_label` goes by.
NAME_TERMS: dict[str, Sequence[str]] = {
    "genus": ("genus",),
    "epithet": ("specificEpithet",),
    "family": ("family",),
    "scientific_name": ("scientificName",),
    "accepted_name": ("acceptedScientificName", "acceptedNameUsage"),
}


def name_label(
    label: Label, genus: str, epithet: str, family: str, scientific_name: str, accepted_name: str
) -> tuple[str, str]:
    """The name that is the key where an archive has no keys of a checklist, and that name with its authorship.

    "" where they are not told: the scientific name of a subspecies or of a synonym is not that of the species.
    """
    key = _name(label, genus, epithet, family, scientific_name, accepted_name)
    given = accepted_name or scientific_name
    return key, given if key and canonical_name(given) == key else ""


def _name(label: Label, genus: str, epithet: str, family: str, scientific_name: str, accepted_name: str) -> str:
    given = accepted_name or scientific_name
    match label:
        case "species":
            # The accepted name counts, and the parts are those of the name as identified.
            return binomial("", "", accepted_name) if accepted_name else binomial(genus, epithet, scientific_name)
        case "genus":
            return canonical_name(accepted_name).split(" ")[0] or genus.strip() or canonical_name(given).split(" ")[0]
        case "family":
            return family.strip()
        case "accepted-taxon":
            return canonical_name(given)
