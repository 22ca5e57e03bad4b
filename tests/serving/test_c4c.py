"""serving.c4c: the spellings that the web component relies on."""

import json

from aitax_ray.engine.bundle import Taxon
from aitax_ray.serving.c4c import REJECTED, to_answer, to_taxa
from aitax_ray.serving.findings import Illustration
from aitax_ray.serving.identifier import Candidate
from tests.serving.answers import make_identification

TAXON = Taxon("2427091", "Rana temporaria", "Rana temporaria L.", "L.", "SPECIES", "common frog", "Rana", "Ranidae")
BARE = Taxon("Q2M4", "Rana ignota", "Rana ignota", "", "SPECIES", "", "", "")
PAGE = "https://www.gbif.org/occurrence/17"
IMAGE = Illustration(
    image_id="a" * 40,
    gbif_id="17",
    occurrence=PAGE,
    url="https://p.example/1.jpg",
    license="CC BY",
    creator="Ann",
    rights_holder="",
    publisher="iNaturalist",
    references="",
    has_thumbnail=True,
    similarity=0.9,
)
SERVICE = "https://frogs.example/api/"
CANDIDATES = Candidate(TAXON, 0.9123456, (IMAGE,)), Candidate(BARE, 0.05, ())
ANSWER = make_identification(*CANDIDATES)


def test_answer_has_the_fields_of_the_component() -> None:
    first, second = json.loads(to_answer(ANSWER, base_url=SERVICE).model_dump_json(by_alias=True))["results"]
    assert first == {
        "name": "Rana temporaria",
        "score": 0.91235,
        "gbif_id": "2427091",
        "authorship": "L.",
        "vernacularName": "common frog",
        "genus": "Rana",
        "family": "Ranidae",
        "is_added": False,
        "images": [
            {
                "url": IMAGE.url,
                "license": "CC BY",
                "rightsHolder": "Ann",
                "publisher": "iNaturalist",
                "creator": "Ann",
                "thumbnail": f"{SERVICE}images/{IMAGE.image_id}",
                "occurrence": PAGE,
                "similarity": 0.9,
            },
        ],
    }
    assert second["images"] == []


NOT_ON_THE_WEB = ["file:///home/ann/1.jpg", "", "/srv/1.jpg", "s3://bucket/1.jpg", "javascript:alert(1)"]


def test_photographs_that_are_not_on_the_web_are_shown_by_the_thumbnail_that_the_service_has() -> None:
    images = tuple(IMAGE._replace(url=url) for url in NOT_ON_THE_WEB)
    (result,) = to_answer(make_identification(Candidate(TAXON, 0.9, images)), base_url=SERVICE).results
    assert {image.url for image in result.images} == {f"{SERVICE}images/{IMAGE.image_id}"}
    assert len(result.images) == len(NOT_ON_THE_WEB)
    assert {image.rights_holder for image in result.images} == {"Ann"}


def test_photographs_without_any_address_are_not_shown() -> None:
    urls = [*NOT_ON_THE_WEB, IMAGE.url]
    images = tuple(IMAGE._replace(url=url) for url in urls)
    (result,) = to_answer(make_identification(Candidate(TAXON, 0.9, images))).results  # there is no service
    assert [(image.url, image.thumbnail) for image in result.images] == [(IMAGE.url, "")]
    images = tuple(IMAGE._replace(url=url, has_thumbnail=False) for url in urls)
    (result,) = to_answer(make_identification(Candidate(TAXON, 0.9, images)), base_url=SERVICE).results
    assert [(image.url, image.thumbnail) for image in result.images] == [(IMAGE.url, "")]


def test_nothing_is_null_and_images_are_always_a_list() -> None:
    def values(node: object) -> list[object]:
        if isinstance(node, dict):
            return [v for child in node.values() for v in values(child)]
        if isinstance(node, list):
            return [v for child in node for v in values(child)]
        return [node]

    assert None not in values(json.loads(to_answer(ANSWER).model_dump_json(by_alias=True)))


def test_the_assessment_says_how_far_the_answer_can_be_believed() -> None:
    answer = json.loads(to_answer(ANSWER).model_dump_json(by_alias=True))
    assert answer["assessment"] == {
        "isKnown": True,
        "rank": "species",
        "name": "Rana temporaria",
        "score": 0.9,
        "isAccepted": True,
        "precision": 0.95,
        "candidates": ["2427091"],
        "promise": 0.9,
        "lookalikes": [],
        "similarity": 0.8765,
    }
    assert answer["message"] == ""


def test_a_rejected_answer_is_an_empty_list_with_a_message_unless_the_client_wants_it_all_the_same() -> None:
    rejected = make_identification(*CANDIDATES, is_known=False)
    answer = to_answer(rejected)
    assert (answer.status, answer.results, answer.message) == ("ok", [], REJECTED)
    assert not answer.assessment.is_known
    assert [result.name for result in to_answer(rejected, no_reject=True).results] == ["Rana temporaria", "Rana ignota"]


def test_without_info_only_names_scores_and_keys_remain() -> None:
    first = to_answer(ANSWER, with_info=False).results[0]
    assert (first.name, first.gbif_id, first.score) == ("Rana temporaria", "2427091", 0.91235)
    assert (first.family, first.vernacularName, first.images) == ("", "", [])


def test_taxa_call_the_species_key_species_id() -> None:
    row = json.loads(to_taxa([TAXON])[0].model_dump_json())
    assert row == {
        "name": "Rana temporaria",
        "species_id": "2427091",
        "rank": "SPECIES",
        "authorship": "L.",
        "vernacularName": "common frog",
        "species": "Rana temporaria",
        "genus": "Rana",
        "family": "Ranidae",
    }
