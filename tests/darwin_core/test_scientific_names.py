import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitax_ray.darwin_core.scientific_names import MAX_CHARS, canonical_name, read_name, read_parts, split_name

SPELLINGS = {
    "Rana temporaria": [
        "Rana temporaria Linnaeus, 1758",
        "Rana temporaria(Linnaeus, 1758)",
        "RANA TEMPORARIA",
        "RANA TEMPORARIA LINNAEUS, 1758",
        "rana temporaria",
        "rAna tEmporaria",
        "  Rana  temporaria ",
        "Rana\u00a0temporaria",
        "Rana_temporaria",
        "<i>Rana temporaria</i> L.",
        "&lt;i&gt;Rana temporaria&lt;/i&gt;",
        "Rana&nbsp;temporaria",
        "'Rana temporaria'",
        "Rana (Rana) temporaria",
        "Rana (Rana) temporaria Linnaeus, 1758",
        "Rana temporaria s.l.",
        "Rana temporaria sensu Boulenger, non Linnaeus",
        "Rana temporaria species complex",
        "Rana temporaria agg.",
        "Rana temporaria-Gruppe",
        "Rana temporaria the",
        "Rana temporariaLinnaeus, 1758",
        "Rana temporariaL.",
        "Rana [Rana] temporaria",
        "Rana temporaria R. Smith & R. de Vries",
        "Rana temporaria L. / common frog",
        "Rana temporaria adulte",
        "Rana temporaria soland.",
        "Rana temporaria temporaria/parvipalmata",
        "Rana temporaria auct.",
        "Rana temporaria nom. nud.",
        "Rana temporaria subsp.",
        "Rana temporaria cf. parvipalmata",
        "Rana temporaria larva",
        "Rana temporaria - common frog",
        "Rana temporaria (common frog)",
        "Rana temporaria 2",
        "†Rana temporaria",
        "(Rana temporaria)",
        "Rana temporaria ♀",
        "Rana temporaria™",
        "Rana temporaria ssp. indet.",
        "Rana temp\u043eraria",  # a Cyrillic o
    ],
    "Phrynosoma mcallii": [
        "Phrynosoma m'callii (Hallowell, 1852)",
        "Phrynosoma m’callii",
        "Phrynosoma M'callii",
        "Phrynosoma mcallii",
    ],
    "Coccinella 7-punctata": [
        "Coccinella 7-punctata Linnaeus, 1758",
        "Coccinella 7punctata",
        "Coccinella 7-PUNCTATA",
        "COCCINELLA 7-PUNCTATA",
    ],
    "Quercus bebbiana": [
        "Quercus X bebbiana C.K.Schneid.",
        "Quercus x bebbiana",
        "Quercus ×bebbiana",
        "Quercus × bebbiana",
        "Quercus xbebbiana",
        "Quercus x. bebbiana",
        "Quercus ✕ bebbiana",
        "QUERCUS X BEBBIANA",
        "Quercus ×bebbiana (Q. alba × Q. macrocarpa)",
    ],
    "Sorbaronia fallax": ["×Sorbaronia fallax", "× Sorbaronia fallax", "X Sorbaronia fallax", "xSorbaronia fallax"],
    "Parus caeruleus": ["Parus cæruleus", "Parus caeruleus"],
    "Isoetes lacustris": [
        "Isoëtes lacustris L.",
        unicodedata.normalize("NFD", "Isoëtes lacustris"),
        "ISOËTES LACUSTRIS",
    ],
    "Parus muelleri": ["Parus mülleri", "Parus muelleri"],
    "Polygonia c-album": ["Polygonia c-album", "Polygonia C-album", "Polygonia c album"],
    "Tremoctopus violaceus": ["Tremoctopus violaceus delle Chiaje, 1830"],
    "Pelophylax esculentus": ["Pelophylax kl. esculentus", "Pelophylax esculentus (Linnaeus, 1758)"],
    "Symphyotrichum novae-angliae": ["Symphyotrichum novae-angliae", "Symphyotrichum novae–angliae"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in SPELLINGS.items() for text in texts])
def test_a_species_has_one_name_however_it_is_spelled(name: str, text: str) -> None:
    found = read_name(text)
    assert (found.canonical, found.species, found.genus, found.rank) == (name, name, name.split(" ")[0], "SPECIES")


def examples(heading: str) -> dict[str, str]:
    """The names in the table of docs/manifest.md that has this heading, with the other column."""
    text = (Path(__file__).parents[2] / "docs" / "manifest.md").read_text(encoding="utf-8")
    rows = text.split(f"{heading}\n|---|---|\n")[1].split("\n\n")[0].splitlines()
    columns = [row.strip("| ").rsplit(" | ", 1) for row in rows]
    return {name: other.strip("`") for names, other in columns for name in re.findall("`(.*?)`", names)}


def test_the_names_in_the_documentation_have_the_keys_that_it_gives() -> None:
    expected = examples("| written | key |")
    assert {name: read_name(name).species for name in expected} == expected
    assert len(expected) > 20


def test_the_names_in_the_documentation_that_name_no_species_name_none() -> None:
    no_species = examples("| written | why |")
    assert {name: read_name(name).species for name in no_species} == dict.fromkeys(no_species, "")
    assert len(no_species) > 15


@pytest.mark.parametrize(
    ("text", "canonical", "rank"),
    [
        ("Prunus mexicana S. Watson var. reticulata (Sarg.) Sarg.", "Prunus mexicana reticulata", "VARIETY"),
        ("PRUNUS MEXICANA VAR. RETICULATA", "Prunus mexicana reticulata", "VARIETY"),
        ("Polypodium pectinatum L. f. typica Rosenst.", "Polypodium pectinatum typica", "FORM"),
        ("Rana alba minor Fitz, 1826", "Rana alba minor", "SUBSPECIES"),
        ("Rana alba minor", "Rana alba minor", "INFRASPECIFIC_NAME"),
        ("Rana alba subsp. minor", "Rana alba minor", "SUBSPECIES"),
        ("Salix alba L. var. alba", "Salix alba alba", "VARIETY"),
    ],
)
def test_a_name_below_the_species_keeps_its_epithets(text: str, canonical: str, rank: str) -> None:
    found = read_name(text)
    assert (found.canonical, found.species) == (canonical, " ".join(canonical.split()[:2]))
    assert found.rank == rank


@pytest.mark.parametrize(
    "text",
    [
        "Rana",
        "Rana Linnaeus, 1758",
        "Rana sp.",
        "Rana sp. 1",
        "Rana sp1",
        "RANA SP.",
        "Rana spp.",
        "Rana species",
        "Rana especie 3",
        "Rana indet.",
        "Rana unidentified",
        "Rana to be determined",
        "Rana larva",
        "Rana the",
        "Rana prob. temporaria",
        "Rana confer temporaria",
        "Rana temporaria-like",
        "Rana temporaria cf.",
        "Rana temporaria hybrid",
        "Rana temporaria ×",
        "Rana temporaria*Rana dalmatina",
        "Rana hybrid",
        "Rana cf. temporaria",
        "RANA CF. TEMPORARIA",
        "Rana aff. temporaria L.",
        "Rana ?temporaria",
        "Rana temporaria?",
        "Rana m?lleri",
        "Rana temporaria/dalmatina",
        "Rana temporaria or dalmatina",
        "Rana temporaria L., Rana dalmatina Fitz.",
        "Rana incertae sedis",
        "Rana ssp.",
        "Rana por determinar",
        "Rana onbepaald",
        "Rana nieoznaczona",
        "Rana määrittämätön",
        "Rana vermutlich temporaria",
        "Rana temporaria maybe",
        "Rana temporaria (probable)",
        "Rana temporaria L., unsicher",
        "Rana temporaria dudosa",
        "Rana temporaria lub dalmatina",
        "Rana temporaria o dalmatina",
        "Rana temporaria vs. dalmatina",
        "Rana temporaria или dalmatina",
        "Rana temporaria (or dalmatina)",
        "Rana temporaria L. or Rana dalmatina Fitz.",
        "Rana temporaria L. oder R. dalmatina Fitz.",
        "Rana temporaria L./R. dalmatina",
        "Rana temporaria L. vel dalmatina",
        "Rana gr. temporaria",
        "Rana $\\alpa$",
    ],
)
def test_what_names_no_species_for_certain_may_name_a_genus(text: str) -> None:
    found = read_name(text)
    assert (found.canonical, found.species, found.genus) == ("Rana", "", "Rana")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " × ",
        "?",
        "-",
        "0",
        "2435099",
        "x",
        "to be determined",
        "Not recorded",
        "not identified",
        "No ID",
        "Unidentified frog",
        "unknown species",
        "indet",
        "sp.",
        "gen. sp.",
        "incertae sedis",
        "N/A",
        "NA",
        "#N/A",
        "<NA>",
        "NULL",
        "tbd",
        "T.B.D.",
        "sin identificar",
        "Indéterminé",
        "unbestimmt",
        "por identificar",
        "Niet gedetermineerd",
        "määrittämätön",
        "tidak diketahui",
        "неизвестно",
        "вид не определён",
        "未鉴定",
        "同上",
        "urn:lsid:marinespecies.org:taxname:126436",
        "https://www.gbif.org/species/2427091",
        "gbif:2427091",
        "TRUE",
        "cf. Rana temporaria",
        "possibly Rana temporaria",
        "R. temporaria",
        "Rana or Bufo",
        "Rana temporaria / Bufo bufo",
        "Rana " + MAX_CHARS * "a",
    ],
)
def test_what_is_no_name_names_nothing(text: str) -> None:
    found = read_name(text)
    assert (found.canonical, found.species, found.genus) == ("", "", "")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("BOLD:AAA1234", "BOLD:AAA1234"),
        ("OTU 123", "OTU 123"),
        ("SH1234567.08FU", "SH1234567.08FU"),
        ("Tobacco mosaic virus", "Tobacco mosaic virus"),
        ("Anas platyrhynchos × Anas rubripes", "Anas platyrhynchos × Anas rubripes"),
        ("Anas platyrhynchos Linnaeus x rubripes", "Anas platyrhynchos × Anas rubripes"),
        ("Anas platyrhynchos X A. rubripes", "Anas platyrhynchos × Anas rubripes"),
        ("ANAS PLATYRHYNCHOS X ANAS RUBRIPES", "Anas platyrhynchos × Anas rubripes"),
        ("Anas × (platyrhynchos × rubripes)", "Anas × (platyrhynchos × rubripes)"),
        ("травяная лягушка", "травяная лягушка"),
    ],
)
def test_codes_viruses_and_hybrids_of_two_species_are_no_species(text: str, canonical: str) -> None:
    found = read_name(text)
    assert (found.canonical, found.species) == (canonical, "")


def test_hybrids_belong_to_a_genus_that_both_parents_share() -> None:
    assert read_name("Anas platyrhynchos × Anas rubripes").genus == "Anas"
    assert read_name("Anas platyrhynchos × Mareca strepera").genus == ""


@pytest.mark.parametrize("text", ["Ranidae", "Ranidae Batsch, 1796", "Rosaceae sp.", "Ranidae gen. sp."])
def test_families_are_no_genera(text: str) -> None:
    assert (read_name(text).canonical, read_name(text).genus) == (text.split(" ")[0], "")


def test_of_a_species_a_capital_word_behind_the_genus_is_its_epithet() -> None:
    assert read_name("Rana Temporaria L.", "SPECIES").species == "Rana temporaria"
    assert read_name("Rana Linnaeus, 1758", "SPECIES").species == ""


@pytest.mark.parametrize(
    ("text", "is_doubtful"),
    [
        ("Rana cf. alba", True),
        ("Rana alba?", True),
        ("Rana alba × Rana nigra", True),
        ("Rana alba/nigra", True),
        ("Rana alba", False),
        ("Rana alba Linn?us, 1758", False),
        ("Rana alba hybrid", True),
        ("Rosa alba hybrida", False),
        ("Rosa alba dubia", False),
        ("Rana alba uncertain", True),
        ("Rana sp.", False),
        ("Parus m. major", False),
        ("Unknown", False),
    ],
)
def test_a_species_in_question_is_doubtful(text: str, is_doubtful: bool) -> None:
    assert read_name(text).is_doubtful is is_doubtful


@pytest.mark.parametrize(
    ("genus", "epithet", "species"),
    [
        ("Rana", "alba", "Rana alba"),
        (" RANA ", " Alba ", "Rana alba"),
        ("Salix", "×fragilis", "Salix fragilis"),
        ("Salix", "X fragilis", "Salix fragilis"),
        ("Rana", "Rana alba", "Rana alba"),
        ("Rana (Rana)", "alba", "Rana alba"),
        ("Rana", "sp.", ""),
        ("Rana", "sp. 1", ""),
        ("Rana", "cf. alba", ""),
        ("Rana", "indet", ""),
        ("Rana", "", ""),
        ("", "alba", ""),
        ("Unknown", "unknown", ""),
    ],
)
def test_a_species_is_read_from_its_parts(genus: str, epithet: str, species: str) -> None:
    assert read_parts(genus, epithet).species == species


def test_parts_may_go_below_the_species() -> None:
    assert read_parts("Prunus", "mexicana", "var. Reticulata").canonical == "Prunus mexicana reticulata"


@pytest.mark.parametrize(
    ("name", "scientific", "authorship"),
    [
        ("Rana alba", "Rana alba Linnaeus, 1758", "Linnaeus, 1758"),
        ("Rana alba", "Rana  alba (de Geer, 1778)", "(de Geer, 1778)"),
        ("Rana alba", "Rana alba", ""),
        ("Salix fragilis", "Salix × fragilis L.", "L."),
        ("Ixodes ricinus", "Ixodes (Ixodes) ricinus (Linnaeus, 1758)", "(Linnaeus, 1758)"),
        (
            "Malaxis monophyllos brachypoda",
            "Malaxis monophyllos var. brachypoda (A.Gray) F.Morris",
            "(A.Gray) F.Morris",
        ),
        ("Isoëtes lacustris", "Isoetes lacustris L.", "L."),
        ("Rana alba", "Bufo albus Daudin, 1802", ""),
        ("Rana alba", "Rana Linnaeus, 1758", ""),
        ("Rana alba", "Rana", ""),
        ("Rana alba", "", ""),
        ("Malaxis", "Malaxis sp.", ""),
        ("Rana", "Rana cf. alba L.", ""),
        ("BOLD:AAA1234", "BOLD:AAA1234", ""),
        ("Rana $\\alpa$", "Rana $\\alpa$", ""),
        ("Rana $\\alpa$", "Rana $\\alpa$ L.", ""),
    ],
)
def test_the_author_is_the_one_of_the_same_name(name: str, scientific: str, authorship: str) -> None:
    found = split_name(name, scientific)
    assert (found.name, found.authorship) == (name, authorship)
    assert found.scientific_name == (" ".join(scientific.split()) if authorship else name)


def test_an_author_within_the_name_is_not_repeated() -> None:
    assert split_name("Rana alba L.", "Rana alba L.").authorship == ""


def test_a_species_without_name_takes_its_scientific_name() -> None:
    assert split_name("", "Rana alba L.").name == "Rana alba L."


_PIECES = [
    "Rana",
    "alba",
    "L.",
    "1758",
    "×",
    "x",
    "cf.",
    "sp.",
    "var.",
    "(",
    ")",
    "?",
    "'",
    "/",
    "&amp;",
    "<i>",
    "ë",
    "\x00",
]


@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(_PIECES), max_size=8).map(" ".join)))
def test_any_text_is_read_and_a_species_is_read_as_itself(text: str) -> None:
    species = read_name(text).species
    assert canonical_name(species) == species
