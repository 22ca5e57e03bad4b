"""serving.pn: the spellings that Pl@ntNet's clients rely on."""

import json
from dataclasses import replace
from typing import Any

import pytest

from aitax_ray.engine.bundle import Taxon
from aitax_ray.schemas import BACKBONE
from aitax_ray.serving.assessment import Observation
from aitax_ray.serving.examples import ENGINE, IDENTIFICATION, MD5, SERVICE, TAXON
from aitax_ray.serving.identifier import Candidate
from aitax_ray.serving.pn import PnRequest, full_name, gbif_key, short_license, to_answer, to_date

ASKED = PnRequest("all", [MD5], ["frog.jpg"], ["leaf"], "fr", base_url=SERVICE)
(CANDIDATE,) = IDENTIFICATION.candidates
(IMAGE,) = CANDIDATE.illustrations


def answer(request: PnRequest = ASKED, *candidates: Candidate, remaining: int = 500) -> Any:
    identification = replace(IDENTIFICATION, candidates=candidates or IDENTIFICATION.candidates)
    return json.loads(to_answer(identification, request, ENGINE, remaining).model_dump_json(by_alias=True))


def test_answer_has_every_key_that_a_strict_client_reads() -> None:
    found = answer()
    assert found.pop("assessment")["isKnown"] is True
    assert found == {
        "query": {
            "project": "all",
            "images": [MD5],
            "organs": ["leaf"],
            "includeRelatedImages": False,
            "noReject": False,
            "type": "",
        },
        "predictedOrgans": [{"image": MD5, "filename": "frog.jpg", "organ": "leaf", "score": 1.0}],
        "language": "fr",
        "preferedReferential": "gbif-backbone",
        "bestMatch": "Rana temporaria Linnaeus, 1758",
        "results": [
            {
                "score": 0.93521,
                "species": {
                    "scientificNameWithoutAuthor": "Rana temporaria",
                    "scientificNameAuthorship": "Linnaeus, 1758",
                    "genus": {
                        "scientificNameWithoutAuthor": "Rana",
                        "scientificNameAuthorship": "",
                        "scientificName": "Rana",
                    },
                    "family": {
                        "scientificNameWithoutAuthor": "Ranidae",
                        "scientificNameAuthorship": "",
                        "scientificName": "Ranidae",
                    },
                    "commonNames": ["Grenouille rousse"],
                    "scientificName": "Rana temporaria Linnaeus, 1758",
                },
                "gbif": {"id": "2426661"},
                "isAdded": False,
            }
        ],
        "version": f"2026-11-01 ({ENGINE.format_version}.0)",
        "remainingIdentificationRequests": 500,
    }


def test_an_organ_that_nobody_named_has_the_score_0() -> None:
    (organ,) = answer(replace(ASKED, organs=["auto"]))["predictedOrgans"]
    assert (organ["organ"], organ["score"]) == ("auto", 0.0)


def test_related_images_have_addresses_credits_and_a_date() -> None:
    (image,) = answer(replace(ASKED, include_related_images=True))["results"][0]["images"]
    thumbnail = f"{SERVICE}images/{IMAGE.image_id}"
    assert image == {
        "organ": "auto",
        "author": "Ann Author",
        "license": "cc-by",
        "date": {"timestamp": 1682899200000, "string": "2023-05-01"},
        "url": {"o": IMAGE.url, "m": thumbnail, "s": thumbnail},
        "citation": "Ann Author / iNaturalist.org, cc-by",
    }


@pytest.mark.parametrize(
    ("url", "has_thumbnail", "addresses"),
    [
        ("https://p.example/1.jpg", False, ("https://p.example/1.jpg",) * 3),
        ("", True, (f"{SERVICE}images/{IMAGE.image_id}",) * 3),
        ("file:///home/ann/1.jpg", True, (f"{SERVICE}images/{IMAGE.image_id}",) * 3),
        ("file:///home/ann/1.jpg", False, None),
    ],
)
def test_an_image_without_an_original_or_a_thumbnail_has_the_other_or_is_left_out(
    url: str, has_thumbnail: bool, addresses: tuple[str, ...] | None
) -> None:
    image = IMAGE._replace(url=url, has_thumbnail=has_thumbnail)
    asked = replace(ASKED, include_related_images=True)
    images = answer(asked, replace(CANDIDATE, illustrations=(image,)))["results"][0]["images"]
    assert [tuple(each["url"].values()) for each in images] == ([] if addresses is None else [addresses])


def test_detailed_adds_genera_and_families() -> None:
    others = answer(replace(ASKED, detailed=True))["otherResults"]
    name = {"scientificNameWithoutAuthor": "Rana", "scientificNameAuthorship": "", "scientificName": "Rana"}
    assert others["genus"] == [{"score": 0.98112, "genus": name}]
    assert [(each["score"], each["family"]["scientificName"]) for each in others["family"]] == [(0.99013, "Ranidae")]


def test_gbif_is_left_out_where_the_key_is_none_of_gbifs() -> None:
    for key, checklist, expected in (
        ("2426661", None, "2426661"),
        ("2426661", BACKBONE, "2426661"),
        ("2426661", "7ddf754f-d193-4cc9-b351-99906754a03b", None),
        ("4QHKG", None, None),
        ("", None, None),
        ("²", None, None),
    ):
        engine = ENGINE.model_copy(update={"checklist_key": checklist})
        assert gbif_key(replace(TAXON, species_key=key), engine) == expected
    (result,) = answer(ASKED, replace(CANDIDATE, taxon=replace(TAXON, species_key="4QHKG")))["results"]
    assert "gbif" not in result


def test_nothing_is_null_in_the_barest_of_answers() -> None:
    bare = Taxon("Q2M4", "Rana ignota", "", "", "SPECIES", "", "", "")
    asked = replace(ASKED, include_related_images=True, detailed=True, observation=Observation(date="2026-05-01"))
    text = to_answer(
        replace(IDENTIFICATION, candidates=(Candidate(bare, 0.1, (IMAGE._replace(license_id="", event_date=""),)),)),
        asked,
        ENGINE,
        1,
    ).model_dump_json(by_alias=True)
    assert "null" not in text
    found = json.loads(text)
    assert found["bestMatch"] == "Rana ignota"
    assert found["results"][0]["species"]["commonNames"] == []
    assert found["results"][0]["images"][0]["date"] == {"timestamp": 0, "string": ""}
    assert found["results"][0]["images"][0]["license"] == IMAGE.license
    assert found["observation"] == {"date": "2026-05-01"}


def test_an_answer_without_candidates_has_an_empty_best_match() -> None:
    found = json.loads(
        to_answer(replace(IDENTIFICATION, candidates=()), ASKED, ENGINE, 1).model_dump_json(by_alias=True)
    )
    assert (found["bestMatch"], found["results"]) == ("", [])


@pytest.mark.parametrize(
    ("given", "string", "timestamp"),
    [
        ("2023-05-01", "2023-05-01", 1682899200000),
        (" 2023-05-01T23:59:59+02:00", "2023-05-01", 1682899200000),
        ("2023-05", "2023-05", 1682899200000),
        ("2023", "2023", 1672531200000),
        ("1969-12-31/1970-01-05", "1969-12-31", -86400000),
        ("0000-01-01", "", 0),
        ("2023-02-31", "", 0),
        ("20230501", "", 0),
        ("May 2023", "", 0),
        ("", "", 0),
    ],
)
def test_dates_are_read_as_far_as_they_are_known(given: str, string: str, timestamp: int) -> None:
    assert (to_date(given).string, to_date(given).timestamp) == (string, timestamp)


@pytest.mark.parametrize(
    ("license_id", "short"),
    [("CC-BY-NC-SA-2.0", "cc-by-nc-sa"), ("CC-BY", "cc-by"), ("CC0-1.0", "cc0"), ("CC-PDM-1.0", "cc-pdm"), ("", "")],
)
def test_licences_are_written_short(license_id: str, short: str) -> None:
    assert short_license(license_id) == short


def test_a_full_name_is_made_of_its_parts_where_it_is_not_known() -> None:
    assert full_name(replace(TAXON, scientific_name="")) == "Rana temporaria Linnaeus, 1758"
