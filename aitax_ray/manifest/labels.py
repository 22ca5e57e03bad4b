"""What a photograph is labelled with: its species, genus, family, or the accepted taxon as it was identified."""

from functools import partial
from typing import Literal

from aitax_ray.darwin_core.relations import Labelling, LabelTerms
from aitax_ray.darwin_core.scientific_names import binomial, canonical_name
from aitax_ray.manifest.checklist import label_taxa

Label = Literal["species", "genus", "family", "accepted-taxon"]


LABELS: dict[Label, LabelTerms] = {
    "species": LabelTerms("speciesKey", "species", "SPECIES"),
    "genus": LabelTerms("genusKey", "genus", "GENUS"),
    "family": LabelTerms("familyKey", "family", "FAMILY"),
    "accepted-taxon": LabelTerms("acceptedTaxonKey", "", ""),
}


def labelling(label: Label) -> Labelling:
    """How an archive's photographs get a label of this kind."""
    terms = LABELS[label]
    return Labelling(terms, partial(name_label, label), partial(label_taxa, rank=terms.rank))


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
