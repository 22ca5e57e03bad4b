from pathlib import Path
from unicodedata import normalize

import polars as pl
import pyarrow.parquet as pq
import pytest

from aitax_ray import schemas
from aitax_ray.database import open_database
from aitax_ray.manifest.taxa import write_occurrences
from tests.archives import sort_out, sort_out_download
from tests.gbif_download import Row, archive_files, meta_xml, occurrence, photo


def shots(*ids: str) -> list[Row]:
    return [photo(gbif_id, f"http://x.org/{i}.jpg") for i, gbif_id in enumerate(ids)]


def test_only_occurrences_with_a_photograph_are_kept_in_the_order_of_the_archive() -> None:
    found = sort_out_download([occurrence("2"), occurrence("3"), occurrence("1"), occurrence("4", "")], shots(*"1242"))
    assert found.occurrences["gbif_id"].to_list() == ["2", "1"]
    assert found.occurrences.columns == schemas.OCCURRENCES.names


def test_an_occurrence_says_where_and_when_and_by_whom() -> None:
    terms = {
        "decimalLatitude": "47.5",
        "decimalLongitude": "-8.25",
        "coordinateUncertaintyInMeters": "30",
        "eventDate": "2020-02-30/31",
        "countryCode": "NA",
        "basisOfRecord": "HUMAN_OBSERVATION",
        "recordedBy": "Ann; Bob",
        "datasetKey": "d1",
        "identifiedBy": "Cleo | BirdNET",
        "identificationVerificationStatus": "verified",
        "identificationRemarks": "male",
    }
    found = sort_out_download([occurrence("1", **terms)], shots("1"))
    assert found.occurrences.row(0, named=True) == {
        "gbif_id": "1",
        "species_key": "11",
        "decimal_latitude": 47.5,
        "decimal_longitude": -8.25,
        "coordinate_uncertainty_m": 30.0,
        "event_date": "2020-02-30/31",
        "country_code": "NA",
        "basis_of_record": "HUMAN_OBSERVATION",
        "recorded_by": "Ann; Bob",
        "dataset_key": "d1",
        "identified_by": "Cleo | BirdNET",
        "identification_status": "verified",
        "identification_remarks": "male",
    }


def test_what_is_written_has_the_types_of_the_schema(tmp_path: Path) -> None:
    texts = ", ".join(f"'' AS {name}" for name in schemas.OCCURRENCES.names)
    with open_database(tmp_path) as database:
        database.execute(f"CREATE TABLE occurrence AS SELECT range AS row, {texts} FROM range(3)")
        database.execute("CREATE TABLE kept AS SELECT unnest([0, 2, 2]) AS occurrence_row")
        assert write_occurrences(database, tmp_path / "found.parquet") == 2
    assert pq.read_table(tmp_path / "found.parquet").schema.equals(schemas.OCCURRENCES)


@pytest.mark.parametrize(
    ("given", "read_as"),
    [
        ("47.5", 47.5),
        (" -0.25 ", -0.25),
        ("0.0", 0.0),
        ("-90", -90.0),
        ("", None),
        ("north", None),
        ("47,5", None),
        ("91", None),
        ("NaN", None),
        ("inf", None),
    ],
)
def test_coordinates_off_the_globe_are_unknown(given: str, read_as: float | None) -> None:
    found = sort_out_download([occurrence("1", decimalLatitude=given)], shots("1"))
    assert found.occurrences["decimal_latitude"].to_list() == [read_as]


def test_a_taxon_is_what_most_of_its_occurrences_say() -> None:
    rows = [
        occurrence("1", family="Ranidae", vernacularName="white frog", kingdom="Animalia"),
        occurrence("2", family="Ranidae", vernacularName=""),
        occurrence("3", family="Hylidae", vernacularName="white frog"),
        occurrence("4", "12"),
        occurrence("5", family="Hylidae"),
    ]
    found = sort_out_download(rows, shots(*"41233")).taxa
    assert found["species_key"].to_list() == ["11", "12"]
    assert set(found.columns) == {*schemas.TAXA.names} - {"vernacular_names"}
    assert found.row(0, named=True) == {
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


def test_texts_that_look_the_same_in_unicode_are_counted_together() -> None:
    genera = ["Rana", "Isoëtes", normalize("NFD", "Isoëtes"), "Rana", normalize("NFD", "Isoëtes")]
    rows = [occurrence(str(i), genus=genus) for i, genus in enumerate(genera)]
    assert sort_out_download(rows, shots(*"01234")).taxa["genus"].to_list() == ["Isoëtes"]


def test_of_texts_that_are_as_frequent_the_first_in_order_wins() -> None:
    rows = [occurrence("1", family="Ranidae"), occurrence("2", family="Hylidae")]
    assert sort_out_download(rows, shots(*"12")).taxa["family"].to_list() == ["Hylidae"]


def test_neither_synonyms_nor_subspecies_give_the_species_its_author() -> None:
    synonym = {"taxonKey": "900", "scientificName": "Bufo albus Daudin, 1802"}
    subspecies = {"taxonKey": "901", "acceptedTaxonKey": "901", "taxonRank": "SUBSPECIES"}
    subspecies |= {
        "scientificName": "Rana alba minor Fitz, 1826",
        "acceptedScientificName": "Rana alba minor Fitz, 1826",
    }
    rows = [occurrence("1", **synonym), occurrence("2", **subspecies), occurrence("3", **subspecies)]
    assert sort_out_download(rows, shots(*"123")).taxa["authorship"].to_list() == ["Linnaeus, 1758"]
    found = sort_out_download(rows[1:], shots(*"23")).taxa
    assert found.select("name", "scientific_name", "authorship").rows() == [("Rana alba", "Rana alba", "")]


def test_an_old_archive_without_accepted_keys_goes_by_the_rank() -> None:
    files = archive_files([occurrence("1"), occurrence("2", taxonKey="900", taxonRank="SUBSPECIES")], shots(*"12"))
    files["meta.xml"] = meta_xml().replace("acceptedTaxonKey", "x").replace("acceptedScientificName", "y")
    found = sort_out(files).taxa
    assert found.select("name", "authorship", "num_occurrences").rows() == [("Rana alba", "Linnaeus, 1758", 2)]


def test_the_accepted_taxon_takes_its_name_and_rank_from_its_own_occurrences() -> None:
    minor = {"taxonKey": "901", "acceptedTaxonKey": "901", "taxonRank": "SUBSPECIES"}
    minor |= {"scientificName": "Rana alba minor Fitz, 1826", "acceptedScientificName": "Rana alba minor Fitz, 1826"}
    synonym = minor | {"taxonKey": "902", "taxonRank": "FORM", "scientificName": "Bufo minor L."}
    rows = [occurrence("1", **minor), occurrence("2", **synonym), occurrence("3")]
    found = sort_out_download(rows, shots(*"123"), label="accepted-taxon").taxa
    assert found.select("species_key", "name", "authorship", "rank").rows() == [
        ("11", "Rana alba", "Linnaeus, 1758", "SPECIES"),
        ("901", "Rana alba minor", "Fitz, 1826", "SUBSPECIES"),
    ]


def test_counts_are_of_what_was_kept() -> None:
    rows = [occurrence("1"), occurrence("2"), occurrence("3", "12")]
    found = sort_out_download(rows, [*shots(*"1123"), photo("2", "http://x.org/0.jpg"), photo("9", "http://x.org/9")])
    assert found.taxa.select("species_key", "num_occurrences", "num_images").rows() == [("11", 2, 3), ("12", 1, 1)]
    assert found.taxa["num_images"].sum() == found.counts[""]
    assert found.taxa.filter(pl.col("name") == "").is_empty()
