"""serving.c4c: the spellings that the web component relies on."""

import json
from dataclasses import replace

from aitax_ray.engine.bundle import Taxon
from aitax_ray.serving.c4c import to_answer, to_taxa
from aitax_ray.serving.identifier import Candidate, Identification, Illustration

TAXON = Taxon("2427091", "Rana temporaria", "Rana temporaria L.", "L.", "SPECIES", "common frog", "Rana", "Ranidae")
BARE = Taxon("Q2M4", "Rana ignota", "Rana ignota", "", "SPECIES", "", "", "")
IMAGE = Illustration("a" * 40, "17", "https://p.example/1.jpg", "CC BY", "Ann", "", "iNaturalist", "", 0.9)
ANSWER = Identification((Candidate(TAXON, 0.9123456, (IMAGE,)), Candidate(BARE, 0.05, ())), "v1")


def test_answer_has_the_fields_of_the_component() -> None:
    first, second = json.loads(to_answer(ANSWER).model_dump_json(by_alias=True))["results"]
    assert first == {
        "name": "Rana temporaria",
        "score": 0.91235,
        "gbif_id": "2427091",
        "authorship": "L.",
        "vernacularName": "common frog",
        "genus": "Rana",
        "family": "Ranidae",
        "images": [
            {"url": IMAGE.url, "license": "CC BY", "rightsHolder": "Ann", "publisher": "iNaturalist"},
        ],
    }
    assert second["images"] == []


def test_photographs_that_are_not_on_the_web_are_not_shown() -> None:
    urls = ["file:///home/ann/1.jpg", "", "/srv/1.jpg", "s3://bucket/1.jpg", "javascript:alert(1)", IMAGE.url]
    images = tuple(replace(IMAGE, url=url) for url in urls)
    (result,) = to_answer(Identification((Candidate(TAXON, 0.9, images),), "v1")).results
    assert [image.url for image in result.images] == [IMAGE.url]


def test_nothing_is_null_and_images_are_always_a_list() -> None:
    def values(node: object) -> list[object]:
        if isinstance(node, dict):
            return [v for child in node.values() for v in values(child)]
        if isinstance(node, list):
            return [v for child in node for v in values(child)]
        return [node]

    assert None not in values(json.loads(to_answer(ANSWER).model_dump_json(by_alias=True)))


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
