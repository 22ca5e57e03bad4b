from pathlib import Path

import polars as pl
import pytest

from aitax_ray import schemas
from aitax_ray.gbif.archive import open_archive
from aitax_ray.gbif.media import candidates, settle
from aitax_ray.gbif.taxa import read_occurrences, split_name, taxa

from .conftest import Row, archive_files, occurrence, photo, write_zip


def read(tmp_path: Path, occurrences: list[Row], media: list[Row]) -> tuple[pl.DataFrame, pl.DataFrame]:
    with open_archive(write_zip(tmp_path / "a.zip", archive_files(occurrences, media))) as archive:
        kept, _ = settle(candidates(archive), None, 0)
        found = read_occurrences(archive, kept)
        return found, taxa(found, kept)


def shots(*ids: str) -> list[Row]:
    return [photo(gbif_id, f"http://x.org/{i}.jpg") for i, gbif_id in enumerate(ids)]


def test_only_occurrences_with_a_photograph_are_kept(tmp_path: Path) -> None:
    occurrences, _ = read(tmp_path, [occurrence("2"), occurrence("1"), occurrence("3")], shots("2", "1", "2"))
    assert occurrences["gbif_id"].to_list() == ["1", "2"]
    assert set(schemas.OCCURRENCES.names) <= set(occurrences.columns)


@pytest.mark.parametrize(
    ("given", "read_as"),
    [("47.5", 47.5), (" -0.25 ", -0.25), ("0.0", 0.0), ("", None), ("north", None), ("91", None), ("NaN", None)],
)
def test_coordinates_off_the_globe_are_unknown(tmp_path: Path, given: str, read_as: float | None) -> None:
    occurrences, _ = read(tmp_path, [occurrence("1", decimalLatitude=given)], shots("1"))
    assert occurrences["decimal_latitude"].to_list() == [read_as]


def test_namibia_stays_namibia(tmp_path: Path) -> None:
    occurrences, _ = read(tmp_path, [occurrence("1", countryCode="NA", eventDate="2020-02-30/31")], shots("1"))
    assert occurrences.select("country_code", "event_date").rows() == [("NA", "2020-02-30/31")]


def test_a_taxon_is_what_most_of_its_occurrences_say(tmp_path: Path) -> None:
    rows = [
        occurrence("1", family="Ranidae", vernacularName="white frog", kingdom="Animalia"),
        occurrence("2", family="Ranidae", vernacularName=""),
        occurrence("3", family="Hylidae", vernacularName="white frog"),
        occurrence("4", "12"),
    ]
    _, found = read(tmp_path, rows, shots("4", "1", "2", "3", "3"))
    assert found["species_key"].to_list() == ["11", "12"]
    first = found.select(schemas.TAXA.names).row(0, named=True)
    assert first == {
        "species_key": "11",
        "name": "Rana alba",
        "scientific_name": "Rana alba Linnaeus, 1758",
        "authorship": "Linnaeus, 1758",
        "rank": "SPECIES",
        "vernacular_name": "white frog",
        "genus": "Rana",
        "family": "Ranidae",
        "order": "",
        "class": "",
        "phylum": "",
        "kingdom": "Animalia",
        "num_occurrences": 3,
        "num_images": 4,
    }


def test_neither_synonyms_nor_subspecies_give_the_species_its_author(tmp_path: Path) -> None:
    synonym = {"taxonKey": "900", "scientificName": "Bufo albus Daudin, 1802"}
    subspecies = {"taxonKey": "901", "acceptedTaxonKey": "901", "taxonRank": "SUBSPECIES"}
    subspecies |= {
        "scientificName": "Rana alba minor Fitz, 1826",
        "acceptedScientificName": "Rana alba minor Fitz, 1826",
    }
    rows = [occurrence("1", **synonym), occurrence("2", **subspecies), occurrence("3", **subspecies)]
    _, found = read(tmp_path, rows, shots("1", "2", "3"))
    assert found["authorship"].to_list() == ["Linnaeus, 1758"]
    _, found = read(tmp_path, rows[1:], shots("2", "3"))
    assert found.select("name", "scientific_name", "authorship").rows() == [("Rana alba", "Rana alba", "")]


@pytest.mark.parametrize(
    ("name", "scientific", "authorship"),
    [
        ("Rana alba", "Rana alba Linnaeus, 1758", "Linnaeus, 1758"),
        ("Rana alba", "Rana  alba (de Geer, 1778)", "(de Geer, 1778)"),
        ("Rana alba", "Rana alba", ""),
        ("Salix fragilis", "Salix × fragilis L.", "L."),
        ("Salix fragilis", "Salix ×fragilis L.", "L."),
        ("Ixodes ricinus", "Ixodes (Ixodes) ricinus (Linnaeus, 1758)", "(Linnaeus, 1758)"),
        ("Rana alba", "Bufo albus Daudin, 1802", ""),
        ("Rana alba", "Rana Linnaeus, 1758", ""),
        ("Rana alba", "", ""),
    ],
)
def test_the_author_is_what_follows_the_name(name: str, scientific: str, authorship: str) -> None:
    found = split_name(name, scientific)
    assert (found.name, found.authorship) == (name, authorship)
    assert found.scientific_name.endswith(authorship or name)


def test_a_species_without_name_takes_its_scientific_name() -> None:
    assert split_name("", "Rana alba L.").name == "Rana alba L."
