"""The label of a photograph: its species, genus or family, or the accepted taxon that it was identified as."""

from functools import partial
from typing import Literal

from aitax_ray.darwin_core.name_text import clean
from aitax_ray.darwin_core.ranks import FAMILY, GENUS, SPECIES, read_rank
from aitax_ray.darwin_core.relations import Labelling, LabelTerms, NameLabel
from aitax_ray.darwin_core.scientific_names import ScientificName, read_name, read_parts
from aitax_ray.manifest.checklist import label_taxa

Label = Literal["species", "genus", "family", "accepted-taxon"]


LABELS: dict[Label, LabelTerms] = {
    "species": LabelTerms("speciesKey", "species", SPECIES),
    "genus": LabelTerms("genusKey", "genus", GENUS),
    "family": LabelTerms("familyKey", "family", FAMILY),
    "accepted-taxon": LabelTerms("acceptedTaxonKey", "", ""),
}


def labelling(label: Label) -> Labelling:
    """Return how the photographs of an archive get a label of this kind."""
    terms = LABELS[label]
    return Labelling(terms, partial(name_label, label), partial(label_taxa, rank=terms.rank))


def name_label(
    label: Label,
    genus: str,
    epithet: str,
    infraspecific_epithet: str,
    family: str,
    scientific_name: str,
    accepted_name: str,
    rank: str,
) -> NameLabel:
    """Label an occurrence by its names, for archives without the keys of a checklist. The arguments are NAME_TERMS.

    The accepted name goes first, then the parts of the name, then the scientific name. The key is "" when the names do
    not go down to the rank of the label, or say that the species is in doubt. The scientific name is "" when it is that
    of another taxon, such as a synonym or a subspecies.
    """
    rank = read_rank(rank)
    identified = read_name(scientific_name, rank)
    accepted = read_name(accepted_name)
    parts = read_parts(genus, epithet, infraspecific_epithet)
    match label:
        case "species":
            key = accepted.species if accepted.canonical else parts.species or identified.species
            if identified.is_doubtful or (parts.genus and parts.is_doubtful):
                key = ""
        case "genus":
            key = accepted.genus or read_name(clean(genus).title()).genus or _genus(identified, rank)
        case "family":
            key = read_name(clean(family).title()).canonical.partition(" ")[0]
        case "accepted-taxon":
            key = accepted.canonical or identified.canonical or parts.canonical
    given, own = (accepted_name, accepted) if accepted.canonical else (scientific_name, identified)
    own_name = clean(given) if key and own.canonical == key else ""
    own_rank = LABELS[label].rank or (rank if own is identified else "") or own.rank
    return NameLabel(key, own_name, own_rank)


def _genus(identified: ScientificName, rank: str) -> str:
    """Return the genus of a scientific name, "" when the rank says that the name is of a higher taxon."""
    return identified.genus if identified.species or rank in ("", GENUS, SPECIES) else ""
