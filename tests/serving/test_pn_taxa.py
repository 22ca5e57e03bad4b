"""serving.pn_taxa: the flora, its species, and the species that a name means."""

import json

import pytest

from aitax_ray.engine.bundle import Taxon
from aitax_ray.serving.examples import ENGINE, TAXON
from aitax_ray.serving.pn_taxa import align, project_of, to_project, to_species

ARVALIS = Taxon(
    "4QHKG", "Rana arvalis", "Rana arvalis Nilsson, 1842", "Nilsson, 1842", "SPECIES", "moor frog", "Rana", "Ranidae"
)
BUFO = Taxon(
    "5217062", "Bufo bufo", "Bufo bufo (Linnaeus, 1758)", "(Linnaeus, 1758)", "SPECIES", "", "Bufo", "Bufonidae"
)
TAXA = [TAXON, ARVALIS, BUFO]


def test_the_engine_is_a_flora_named_by_the_setting_else_by_its_doi_else_by_its_version() -> None:
    assert project_of(ENGINE, "k-central-america") == "k-central-america"
    assert project_of(ENGINE) == "dl.frogs1"
    assert project_of(ENGINE.model_copy(update={"doi": None})) == "2026-11-01-frogs"
    found = to_project(ENGINE.model_copy(update={"doi": None, "citation": None}), "frogs").model_dump(by_alias=True)
    assert found.keys() == {"id", "title", "name", "description", "speciesCount"}
    assert (found["id"], found["speciesCount"]) == ("frogs", 1)
    assert all(found.values())


def test_species_are_listed_by_name_with_a_number_only_where_it_is_gbifs() -> None:
    rows = [json.loads(row.model_dump_json(by_alias=True)) for row in to_species(TAXA, ENGINE, "fr")]
    assert [row["scientificNameWithoutAuthor"] for row in rows] == ["Bufo bufo", "Rana arvalis", "Rana temporaria"]
    assert rows[2] == {
        "id": "2426661",
        "commonNames": ["Grenouille rousse"],
        "scientificNameWithoutAuthor": "Rana temporaria",
        "scientificNameAuthorship": "Linnaeus, 1758",
        "gbifId": 2426661,
        "powoId": "",
        "iucnCategory": "",
    }
    assert "gbifId" not in rows[1]
    assert rows[0]["commonNames"] == []


def test_a_prefix_is_that_of_a_scientific_or_a_common_name() -> None:
    def names(prefix: str) -> list[str]:
        return [row.scientific_name_without_author for row in to_species(TAXA, ENGINE, "fr", prefix)]

    assert names("RANA") == ["Rana arvalis", "Rana temporaria"]
    assert names("grenou") == ["Rana temporaria"]
    assert names("frog") == []


def test_pages_are_full_until_a_short_one_comes() -> None:
    sizes = [len(to_species(TAXA, ENGINE, "en", page=slice(start, start + 2))) for start in (0, 2, 4)]
    assert sizes == [2, 1, 0]


@pytest.mark.parametrize(
    ("name", "species_key", "match_type"),
    [
        ("Rana temporaria", "2426661", "exact"),
        ("  rana   TEMPORARIA ", "2426661", "exact"),
        ("Rana temporaria Linnaeus, 1758", "2426661", "exact"),
        ("Rana temporaria L.", "2426661", "canonical"),
        ("Rana arvalis Nilsson", "4QHKG", "canonical"),
    ],
)
def test_a_name_is_aligned_with_or_without_its_author(name: str, species_key: str, match_type: str) -> None:
    found = align(TAXA, ENGINE, "all", name)
    assert found is not None
    assert (found.searched_name, found.match_type, found.is_synonym) == (name, match_type, False)
    assert found.gbif is None if species_key == "4QHKG" else found.gbif.id == species_key  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["Rana temporarria", "Rana temporia L.", "rana temporaira"])
def test_a_close_name_is_accepted_only_on_request(name: str) -> None:
    assert align(TAXA, ENGINE, "all", name) is None
    found = align(TAXA, ENGINE, "all", name, fuzzy=True)
    assert found is not None
    assert (found.accepted_name, found.match_type) == ("Rana temporaria Linnaeus, 1758", "close")


@pytest.mark.parametrize("name", ["Rana", "Rana esculenta", "x", " ", "Rana temporaria" * 20])
def test_another_name_is_aligned_with_nothing(name: str) -> None:
    assert align(TAXA, ENGINE, "all", name, fuzzy=True) is None


def test_names_in_the_answer_have_no_author_on_request() -> None:
    found = align(TAXA, ENGINE, "all", "Bufo bufo", authorship=False)
    assert found is not None
    assert json.loads(found.model_dump_json(by_alias=True)) == {
        "searchedName": "Bufo bufo",
        "matchingName": "Bufo bufo",
        "acceptedName": "Bufo bufo",
        "isSynonym": False,
        "project": "all",
        "family": "Bufonidae",
        "genus": "Bufo",
        "gbif": {"id": "5217062"},
        "matchType": "exact",
    }
