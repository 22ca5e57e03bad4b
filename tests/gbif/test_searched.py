from typing import Any

import pytest

from aitax_ray.darwin_core.descriptor import parse_meta
from aitax_ray.errors import GbifError
from aitax_ray.gbif.searched import MEDIA_TERMS, OCCURRENCE_TERMS, make_line, make_meta_xml, make_row
from tests.fake_gbif import BACKBONE, COL, Gbif


@pytest.fixture
def result() -> dict[str, Any]:
    return Gbif("").photographed(1)[0]


def test_without_checklist_the_keys_are_those_of_the_row(result: dict[str, Any]) -> None:
    for checklist in ("", BACKBONE):
        row = make_row(result, checklist)
        assert (row["gbifID"], row["speciesKey"], row["genusKey"], row["species"]) == ("1", 11, 2, "Rana alba")


def test_the_keys_and_names_are_those_of_the_checklist_asked_for(result: dict[str, Any]) -> None:
    result["classifications"][COL]["usage"] = {"key": "S9", "name": "Rana albicans L.", "rank": "SPECIES"}
    row = make_row(result, COL)
    assert (row["taxonKey"], row["acceptedTaxonKey"], row["speciesKey"]) == ("S9", "C11", "C11")
    assert (row["scientificName"], row["acceptedScientificName"]) == ("Rana albicans L.", "Rana alba L.")
    assert (row["genusKey"], row["genus"], row["species"]) == ("G2", "Rana", "Rana alba")


def test_what_the_checklist_does_not_know_is_not_taken_from_another_one(result: dict[str, Any]) -> None:
    result["family"] = "Ranidae"
    assert make_row(result, COL)["family"] is None  # the checklist's classification has none
    del result["classifications"]
    row = make_row(result, COL)
    assert {row.get(term) for term in ("taxonKey", "speciesKey", "species", "genus", "family", "kingdom")} == {None}
    assert row["gbifID"] == "1"


def test_the_key_is_the_id_of_a_result_without_one(result: dict[str, Any]) -> None:
    del result["gbifID"]
    assert make_row(result, "")["gbifID"] == 1


@pytest.mark.parametrize("classifications", ["x", {COL: ["x"]}, {COL: {"classification": {"rank": "GENUS"}}}])
def test_classifications_of_another_shape_are_an_error(result: dict[str, Any], classifications: object) -> None:
    with pytest.raises(GbifError, match="check --gbif-url, or try later"):
        make_row(result | {"classifications": classifications}, COL)


def test_line_ends_and_tabs_in_a_value_become_blanks() -> None:
    row = {"a": "x\ty\r\nz\x00\x0b\x0c\x85\u2028\u2029", "b": None, "c": 1.5, "d": True}
    assert make_line(row, ["a", "b", "c", "d", "e"]) == "x y  z      \t\t1.5\tTrue\t\n"


def test_the_descriptor_names_the_files_of_all_parts() -> None:
    descriptor = parse_meta(make_meta_xml(["p1", "p2"]).encode(), "x")
    media = descriptor.extensions[0]
    assert (descriptor.core.kind, media.kind) == ("occurrence", "multimedia")
    assert descriptor.core.locations == ("occurrence-p1.txt", "occurrence-p2.txt")
    assert media.locations == ("multimedia-p1.txt", "multimedia-p2.txt")
    assert (descriptor.core.delimiter, descriptor.core.quote, descriptor.core.header_lines) == ("\t", "", 0)
    assert descriptor.core.columns == {term: (i,) for i, term in enumerate(OCCURRENCE_TERMS)}
    assert media.columns == {term: (i,) for i, term in enumerate(MEDIA_TERMS)}
