import pytest

from aitax_ray.darwin_core.scientific_names import binomial, canonical_name, split_name


@pytest.mark.parametrize(
    ("name", "scientific", "authorship"),
    [
        ("Rana alba", "Rana alba Linnaeus, 1758", "Linnaeus, 1758"),
        ("Rana alba", "Rana  alba (de Geer, 1778)", "(de Geer, 1778)"),
        ("Rana alba", "Rana alba", ""),
        ("Salix fragilis", "Salix × fragilis L.", "L."),
        ("Salix fragilis", "Salix ×fragilis L.", "L."),
        ("Salix fragilis", "Salix x fragilis L.", "L."),
        ("Ixodes ricinus", "Ixodes (Ixodes) ricinus (Linnaeus, 1758)", "(Linnaeus, 1758)"),
        (
            "Malaxis monophyllos brachypoda",
            "Malaxis monophyllos var. brachypoda (A. Gray) F. Morris",
            "(A. Gray) F. Morris",
        ),
        ("Rana alba", "Bufo albus Daudin, 1802", ""),
        ("Rana alba", "Rana Linnaeus, 1758", ""),
        ("Rana alba", "Rana", ""),
        ("Rana alba", "", ""),
        ("Malaxis", "Malaxis sp.", ""),
        ("Rana", "Rana cf. alba", ""),
    ],
)
def test_the_author_is_what_follows_the_name(name: str, scientific: str, authorship: str) -> None:
    found = split_name(name, scientific)
    assert (found.name, found.authorship) == (name, authorship)
    assert found.scientific_name == (" ".join(scientific.split()) if authorship else name)


def test_a_species_without_name_takes_its_scientific_name() -> None:
    assert split_name("", "Rana alba L.").name == "Rana alba L."


@pytest.mark.parametrize(
    ("scientific", "canonical"),
    [
        ("Rana alba Linnaeus, 1758", "Rana alba"),
        ("  Rana   alba ", "Rana alba"),
        ("Rana alba minor Fitz, 1826", "Rana alba minor"),
        ("Malaxis monophyllos var. brachypoda (A. Gray) F. Morris", "Malaxis monophyllos brachypoda"),
        ("Ixodes (Ixodes) ricinus (Linnaeus, 1758)", "Ixodes ricinus"),
        ("Salix × fragilis L.", "Salix fragilis"),
        ("Salix ×fragilis L.", "Salix fragilis"),
        ("Salix x fragilis L.", "Salix fragilis"),
        ("×Sorbaronia fallax", "Sorbaronia fallax"),
        ("Parus major van der Hoeven", "Parus major"),
        ("Salvia splendens hort. ex Nees", "Salvia splendens"),
        ("Solanum lycopersicum de Candolle", "Solanum lycopersicum"),
        ("Ménétriésia naïve-alba L.", "Ménétriésia naïve-alba"),
        ("Malaxis sp.", "Malaxis"),
        ("Rana cf. alba", "Rana"),
        ("Rana", "Rana"),
        ("Rana Linnaeus, 1758", "Rana"),
        ("BOLD:AAA1234", "BOLD:AAA1234"),
        ("Anas platyrhynchos × Anas rubripes", "Anas platyrhynchos × Anas rubripes"),
        ("Anas platyrhynchos Linnaeus x rubripes", "Anas platyrhynchos Linnaeus x rubripes"),
        ("", ""),
        (" × ", ""),
    ],
)
def test_the_canonical_name_is_without_authors_ranks_and_signs(scientific: str, canonical: str) -> None:
    assert canonical_name(scientific) == canonical


@pytest.mark.parametrize(
    ("genus", "epithet", "scientific", "name"),
    [
        ("Rana", "alba", "", "Rana alba"),
        (" Rana ", " alba ", "Bufo albus", "Rana alba"),
        ("Salix", "×fragilis", "", "Salix fragilis"),
        ("", "", "Rana alba minor Fitz", "Rana alba"),
        ("Rana", "", "Rana alba", "Rana alba"),
        ("Rana", "sp.", "Rana sp.", ""),
        ("Rana", "sp", "", ""),
        ("Rana", "indet", "", ""),
        ("Rana", "Alba", "", ""),
        ("Rana", "", "", ""),
        ("", "alba", "", ""),
        ("", "", "Rana", ""),
        ("Anas", "platyrhynchos", "Anas platyrhynchos × Anas rubripes", ""),
        ("", "", "Anas platyrhynchos x rubripes", ""),
    ],
)
def test_a_species_has_two_words_or_none(genus: str, epithet: str, scientific: str, name: str) -> None:
    assert binomial(genus, epithet, scientific) == name
