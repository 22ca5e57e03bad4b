import pytest

from aitax_ray.darwin_core.relations import NAME_TERMS
from aitax_ray.manifest.labels import LABELS, Label, name_label

ALBA = {"genus": "Rana", "epithet": "alba", "family": "Ranidae", "scientific_name": "Rana alba L., 1758"}
MINOR = "Rana alba minor Fitz, 1826"


def label_of(label: Label, **terms: str) -> tuple[str, str, str]:
    return name_label(label, **(dict.fromkeys(NAME_TERMS, "") | terms))


@pytest.mark.parametrize(
    ("label", "terms", "found"),
    [
        ("species", ALBA, ("Rana alba", "Rana alba L., 1758")),
        ("species", {"scientific_name": "Rana alba L., 1758"}, ("Rana alba", "Rana alba L., 1758")),
        ("species", {"scientific_name": "<i>RANA</i>&nbsp;ALBA"}, ("Rana alba", "RANA ALBA")),
        ("species", {"scientific_name": MINOR}, ("Rana alba", "")),
        ("species", {"scientific_name": "Rana Alba L.", "rank": "Art"}, ("Rana alba", "Rana Alba L.")),
        ("species", {"genus": "RANA", "epithet": "ALBA"}, ("Rana alba", "")),
        ("species", ALBA | {"scientific_name": "Rana sp."}, ("Rana alba", "")),
        ("species", ALBA | {"accepted_name": "Bufo albus (L., 1758)"}, ("Bufo albus", "Bufo albus (L., 1758)")),
        ("species", ALBA | {"accepted_name": MINOR}, ("Rana alba", "")),
        ("species", ALBA | {"accepted_name": "unknown"}, ("Rana alba", "Rana alba L., 1758")),
        ("species", ALBA | {"accepted_name": "Bufo sp."}, ("", "")),
        ("species", ALBA | {"scientific_name": "Rana cf. alba"}, ("", "")),
        ("species", ALBA | {"scientific_name": "Rana alba × Rana nigra"}, ("", "")),
        ("species", ALBA | {"epithet": "cf. alba"}, ("", "")),
        ("species", {"genus": "Unknown", "epithet": "unknown", "scientific_name": "Rana alba"}, ("Rana alba",) * 2),
        ("species", {"genus": "Rana", "epithet": "sp.", "scientific_name": "Rana sp."}, ("", "")),
        ("species", {"genus": "Rana", "family": "Ranidae"}, ("", "")),
        ("species", {"scientific_name": "to be determined"}, ("", "")),
        ("species", {"scientific_name": "BOLD:AAA1234"}, ("", "")),
        ("genus", ALBA, ("Rana", "")),
        ("genus", {"genus": "rana"}, ("Rana", "")),
        ("genus", {"genus": "<i>Rana</i>"}, ("Rana", "")),
        ("genus", {"genus": "×Sorbaronia"}, ("Sorbaronia", "")),
        ("genus", {"genus": "x Sorbaronia"}, ("Sorbaronia", "")),
        ("genus", {"genus": "Isoe\u0308tes"}, ("Isoetes", "")),
        ("genus", {"genus": "cf. Rana"}, ("", "")),
        ("genus", {"genus": "unknown", "scientific_name": "Rana sp."}, ("Rana", "Rana sp.")),
        ("genus", {"scientific_name": "Rana Linnaeus, 1758"}, ("Rana", "Rana Linnaeus, 1758")),
        ("genus", {"scientific_name": "Anura", "rank": "order"}, ("", "")),
        ("genus", {"scientific_name": "Ranidae"}, ("", "")),
        ("genus", {"scientific_name": "Rana alba L.", "accepted_name": "Bufo albus (L.)"}, ("Bufo", "")),
        ("genus", ALBA | {"accepted_name": "Bufo albus (L.)"}, ("Bufo", "")),
        ("genus", {}, ("", "")),
        ("family", ALBA, ("Ranidae", "")),
        ("family", {"family": "RANIDAE"}, ("Ranidae", "")),
        ("family", {"family": "<i>Ranidae</i>"}, ("Ranidae", "")),
        ("family", {"family": "incertae sedis"}, ("", "")),
        (
            "family",
            {"family": "Ranidae ", "scientific_name": "Ranidae Batsch, 1796"},
            ("Ranidae", "Ranidae Batsch, 1796"),
        ),
        ("family", {"scientific_name": "Rana alba"}, ("", "")),
        ("accepted-taxon", {"scientific_name": MINOR}, ("Rana alba minor", MINOR)),
        ("accepted-taxon", ALBA | {"accepted_name": "Bufo albus (L.)"}, ("Bufo albus", "Bufo albus (L.)")),
        ("accepted-taxon", ALBA | {"scientific_name": "", "infraspecific_epithet": "minor"}, ("Rana alba minor", "")),
        ("accepted-taxon", {"scientific_name": "BOLD:AAA1234"}, ("BOLD:AAA1234", "BOLD:AAA1234")),
        ("accepted-taxon", {"scientific_name": "Not recorded"}, ("", "")),
        ("accepted-taxon", {}, ("", "")),
    ],
)
def test_a_label_is_a_name_and_its_authorship_where_it_is_given(
    label: Label, terms: dict[str, str], found: tuple[str, str]
) -> None:
    assert label_of(label, **terms)[:2] == found


@pytest.mark.parametrize(
    ("label", "terms", "rank"),
    [
        ("species", {"scientific_name": MINOR, "rank": "subspecies"}, "SPECIES"),
        ("family", ALBA, "FAMILY"),
        ("accepted-taxon", {"scientific_name": MINOR, "rank": "Unterart"}, "SUBSPECIES"),
        ("accepted-taxon", {"scientific_name": "Rana alba", "rank": ""}, "SPECIES"),
        ("accepted-taxon", {"scientific_name": "Rana alba var. minor"}, "VARIETY"),
        ("accepted-taxon", {"scientific_name": MINOR, "rank": "ssp.", "accepted_name": "Rana alba"}, "SPECIES"),
        ("accepted-taxon", {"scientific_name": "Anura", "rank": "orden"}, "ORDER"),
        ("accepted-taxon", {"scientific_name": "Anura"}, ""),
    ],
)
def test_a_label_has_the_rank_of_its_own_name(label: Label, terms: dict[str, str], rank: str) -> None:
    assert label_of(label, **terms)[2] == rank


def test_every_label_has_its_key_in_a_download() -> None:
    assert {label: (terms.key, terms.rank) for label, terms in LABELS.items()} == {
        "species": ("speciesKey", "SPECIES"),
        "genus": ("genusKey", "GENUS"),
        "family": ("familyKey", "FAMILY"),
        "accepted-taxon": ("acceptedTaxonKey", ""),
    }
