import polars as pl
import pytest

from aitax_ray.darwin_core.relations import RANKS, TAXON_TERMS
from aitax_ray.darwin_core.tables import KEY
from aitax_ray.manifest.checklist import label_taxa
from aitax_ray.manifest.labels import LABELS, Label

# id, scientific name, rank, accepted, parent
FROGS = [
    ("f", "Ranidae Batsch, 1796", "family", "", "nowhere"),
    ("g", "Rana Linnaeus, 1758", "Genus", "", "f"),
    ("s", "Rana alba Linnaeus, 1758", "species", "s", "g"),
    ("m", "Rana alba minor Fitz, 1826", "subspecies", "", "s"),
    ("y", "Bufo albus Daudin, 1802", "species", "s", ""),
    ("z", "Bufo minor Daudin, 1802", "species", "m", "f"),
    ("o", "Rana oblita", "species", "not in the list", "g"),
]


def taxon(key: str, scientific_name: str = "", rank: str = "", **more: str) -> dict[str, str]:
    """A row of a checklist that has no ids but the taxon's own, unless `more` gives them."""
    return dict.fromkeys((KEY, *TAXON_TERMS), "") | {KEY: key, "scientific_name": scientific_name, "rank": rank} | more


def labels(rows: list[dict[str, str]], label: Label = "species") -> dict[str, str]:
    return dict(label_taxa(pl.DataFrame(rows), LABELS[label].rank).select(KEY, "species_key").iter_rows())


def taxa(rows: list[tuple[str, str, str, str, str]], **more: str) -> pl.DataFrame:
    names = (KEY, "scientific_name", "rank", "accepted", "parent")
    empty = dict.fromkeys((KEY, *TAXON_TERMS), "")
    return pl.DataFrame([empty | more | dict(zip(names, row, strict=True)) for row in rows])


def keys(label: Label, rows: list[tuple[str, str, str, str, str]] = FROGS) -> dict[str, str]:
    return dict(label_taxa(taxa(rows), LABELS[label].rank).select(KEY, "species_key").iter_rows())


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("species", {"f": "", "g": "", "s": "s", "m": "s", "y": "s", "z": "s", "o": "o"}),
        ("genus", {"f": "", "g": "g", "s": "g", "m": "g", "y": "g", "z": "g", "o": "g"}),
        ("family", dict.fromkeys("fgsmyzo", "f")),
        ("accepted-taxon", {"f": "f", "g": "g", "s": "s", "m": "m", "y": "s", "z": "m", "o": "o"}),
    ],
)
def test_a_taxon_goes_under_the_accepted_one_and_its_ancestor_of_the_rank(
    label: Label, expected: dict[str, str]
) -> None:
    assert keys(label) == expected


def test_a_labels_names_and_ranks_are_its_own_not_those_of_a_subspecies_or_synonym() -> None:
    found = label_taxa(taxa(FROGS, kingdom="Animalia"), "SPECIES").filter(pl.col(KEY).is_in(["m", "y"]))
    expected = {
        "species_key": "s",
        "name": "Rana alba",
        "scientific_name": "Rana alba Linnaeus, 1758",
        "rank": "SPECIES",
        "vernacular_name": "",
        "genus": "Rana",
        "family": "Ranidae",
        "order": "",
        "class": "",
        "phylum": "",
        "kingdom": "Animalia",
    }
    assert found.drop(KEY).to_dicts() == [expected, expected]
    assert list(expected)[5:] == list(RANKS)


def test_a_canonical_name_that_is_given_goes_before_one_that_is_made() -> None:
    rows = [("s", "Rana alba L.", "species", "", "")]
    assert label_taxa(taxa(rows, canonical_name="Rana alba-nigra"), "SPECIES")["name"].to_list() == ["Rana alba-nigra"]


def test_a_checklist_that_goes_in_circles_comes_to_an_end() -> None:
    circle = [
        ("a", "Rana", "genus", "b", "c"),
        ("b", "Rana", "genus", "a", "c"),
        ("c", "Rana alba", "species", "c", "a"),
        ("d", "Bufo", "genus", "", "d"),
    ]
    assert keys("species", circle) == {"a": "c", "b": "c", "c": "c", "d": ""}
    assert keys("family", circle) == dict.fromkeys("abcd", "")


def test_a_list_without_end_is_given_up() -> None:
    chain = [(str(i), "x", "", "", str(i + 1)) for i in range(1000)] + [("1000", "Rana alba", "species", "", "")]
    found = keys("species", chain)
    assert (found["0"], found["950"]) == ("", "1000")


def test_of_no_taxa_none_is_labelled() -> None:
    assert label_taxa(taxa(FROGS).clear(), "SPECIES").is_empty()


@pytest.mark.parametrize(
    ("name", "rank", "label"),
    [
        ("Rana temporaria Linnaeus, 1758", "", "t"),
        ("Rana temporaria", "unranked", "t"),
        ("Rana temporaria", "sp.", "t"),
        ("Rana temporaria", "espèce", "t"),
        ("Rana temporaria", "Art", "t"),
        ("Rana temporaria", "SPECIES ", "t"),
        ("Rana", "", ""),
        ("Rana", "genus", ""),
        ("Rana sp.", "species", ""),
        ("Unidentified frog", "species", ""),
        ("Rana alba × Rana nigra", "species", ""),
        ("Tobacco mosaic virus", "species", "t"),
        ("BOLD:AAA1234", "", ""),
    ],
)
def test_a_species_is_what_its_rank_or_its_name_says(name: str, rank: str, label: str) -> None:
    assert labels([taxon("t", name, rank)]) == {"t": label}


def test_a_species_without_scientific_name_is_named_by_its_parts() -> None:
    found = label_taxa(pl.DataFrame([taxon("t", genus="Rana", epithet="alba")]), "SPECIES")
    assert found.select("species_key", "name", "rank").rows() == [("t", "Rana alba", "SPECIES")]


def test_a_subspecies_without_parent_goes_to_the_species_of_its_name() -> None:
    minor = taxon("m", "Rana alba minor", "subspecies")
    typica = taxon("f", "Rana alba f. typica", "forma")
    nameless = taxon("n", "Rana alba nigra", "")
    assert labels([minor, typica, nameless]) == dict.fromkeys("mfn", "Rana alba")
    species = [taxon("s", "RANA ALBA L.", "Art")]
    assert labels([minor, typica, nameless, *species]) == dict.fromkeys("mfns", "s")
    accepted = [taxon("s", "Rana alba", "species", accepted="b"), taxon("b", "Bufo albus", "species")]
    assert labels([minor, *accepted]) == dict.fromkeys("msb", "b")


def test_links_by_name_count_where_there_are_none_by_id() -> None:
    rows = [
        taxon("y", "Bufo albus Daudin", "species", accepted_name="Rana alba L."),
        taxon("o", "Bufo niger", "species", accepted_name="Rana oblita Fitz"),
        taxon("m", "Minor typicus", "subspecies", parent_name="Rana alba"),
        taxon("s", "Rana alba L.", "species", accepted_name="Rana alba L.", parent_name="Rana"),
        taxon("g", "Rana", "", parent_name="Ranidae"),
        taxon("h", "Rana alba Smith", "species", accepted_name="Rana alba Smith"),  # a homonym
    ]
    assert labels(rows) == {"y": "s", "o": "Rana oblita", "m": "s", "s": "s", "g": "", "h": "h"}
    assert labels(rows, "genus") == {"y": "g", "o": "g", "m": "g", "s": "g", "g": "g", "h": "g"}
    assert labels(rows, "family")["m"] == "Ranidae"


def test_a_lineage_by_name_gives_the_genus_and_the_family() -> None:
    rows = [taxon("s", "Rana alba", "species", family="Ranidae", order="Anura"), taxon("t", "Rana nigra")]
    assert labels(rows, "genus") == dict.fromkeys("st", "Rana")
    assert labels(rows, "family") == {"s": "Ranidae", "t": ""}
    found = label_taxa(pl.DataFrame(rows), "FAMILY").row(0, named=True)
    assert (found["name"], found["rank"], found["order"]) == ("Ranidae", "FAMILY", "Anura")
    assert labels([*rows, taxon("f", "Ranidae Batsch", "famille")], "family") == {"s": "f", "t": "", "f": "f"}


def test_a_species_in_doubt_still_has_a_genus() -> None:
    rows = [taxon("c", "Rana cf. alba", "species"), taxon("s", "Rana sp.", "species"), taxon("o", "Anura", "order")]
    assert labels(rows, "species") == dict.fromkeys("cso", "")
    assert labels(rows, "genus") == {"c": "Rana", "s": "Rana", "o": ""}


def test_what_is_no_name_labels_nothing() -> None:
    assert labels([taxon("u", "unknown", "family"), taxon("t", "Rana alba")], "accepted-taxon") == {"u": "", "t": "t"}
