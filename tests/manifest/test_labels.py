import pytest

from aitax_ray.darwin_core.relations import NAME_TERMS
from aitax_ray.manifest.labels import LABELS, Label, name_label

ALBA = {"genus": "Rana", "epithet": "alba", "family": "Ranidae", "scientific_name": "Rana alba L., 1758"}
MINOR = "Rana alba minor Fitz, 1826"


def label_of(label: Label, **told: str) -> tuple[str, str]:
    return name_label(label, **(dict.fromkeys(NAME_TERMS, "") | told))


@pytest.mark.parametrize(
    ("label", "told", "found"),
    [
        ("species", ALBA, ("Rana alba", "Rana alba L., 1758")),
        ("species", {"scientific_name": "Rana alba L., 1758"}, ("Rana alba", "Rana alba L., 1758")),
        ("species", {"scientific_name": MINOR}, ("Rana alba", "")),
        ("species", ALBA | {"scientific_name": "Rana sp."}, ("Rana alba", "")),
        ("species", ALBA | {"accepted_name": "Bufo albus (L., 1758)"}, ("Bufo albus", "Bufo albus (L., 1758)")),
        ("species", ALBA | {"accepted_name": MINOR}, ("Rana alba", "")),
        ("species", {"genus": "Rana", "epithet": "sp.", "scientific_name": "Rana sp."}, ("", "")),
        ("species", {"genus": "Rana", "family": "Ranidae"}, ("", "")),
        ("species", {"scientific_name": "Rana alba × Rana nigra"}, ("", "")),
        ("genus", ALBA, ("Rana", "")),
        ("genus", {"scientific_name": "Rana Linnaeus, 1758"}, ("Rana", "Rana Linnaeus, 1758")),
        ("genus", {"scientific_name": "Rana alba L.", "accepted_name": "Bufo albus (L.)"}, ("Bufo", "")),
        ("genus", ALBA | {"accepted_name": "Bufo albus (L.)"}, ("Bufo", "")),
        ("genus", {}, ("", "")),
        ("family", ALBA, ("Ranidae", "")),
        (
            "family",
            {"family": "Ranidae ", "scientific_name": "Ranidae Batsch, 1796"},
            ("Ranidae", "Ranidae Batsch, 1796"),
        ),
        ("family", {"scientific_name": "Rana alba"}, ("", "")),
        ("accepted-taxon", {"scientific_name": MINOR}, ("Rana alba minor", MINOR)),
        ("accepted-taxon", ALBA | {"accepted_name": "Bufo albus (L.)"}, ("Bufo albus", "Bufo albus (L.)")),
        ("accepted-taxon", {}, ("", "")),
    ],
)
def test_a_label_is_a_name_and_its_authorship_where_it_is_told(
    label: Label, told: dict[str, str], found: tuple[str, str]
) -> None:
    assert label_of(label, **told) == found


def test_every_label_has_its_key_in_a_download() -> None:
    assert {label: (terms.key, terms.rank) for label, terms in LABELS.items()} == {
        "species": ("speciesKey", "SPECIES"),
        "genus": ("genusKey", "GENUS"),
        "family": ("familyKey", "FAMILY"),
        "accepted-taxon": ("acceptedTaxonKey", ""),
    }
