"""serving.nia: the spellings that clients of Naturalis' interface rely on."""

import json
from dataclasses import replace
from typing import Any

import pytest

from aitax_ray.serving.assessment import Observation
from aitax_ray.serving.examples import ENGINE, IDENTIFICATION, MD5
from aitax_ray.serving.identifier import Identification
from aitax_ray.serving.nia import NiaMedium, to_answer, to_documentation
from tests.serving.answers import make_judgement

MEDIA = [NiaMedium(filename="a.jpg", id=MD5)]


def answer(identification: Identification = IDENTIFICATION, **options: Any) -> Any:
    found = to_answer(identification, ENGINE, MEDIA, ENGINE.created, {"autozoom_enabled": "1"}, **options)
    return json.loads(found.model_dump_json())


def test_answer_has_what_clients_read() -> None:
    found = answer(observation=Observation(lat=52.1, lon=4.5))
    assert found["generated_by"] == {
        "datetime": "2026-11-01T00:00:00.000+00:00",
        "parameters": {"autozoom_enabled": "1"},
        "tag": f"algorithm=efficientnet_lite0:2026-11-01-frogs,api=aitax-ray:{ENGINE.format_version}",
        "version": "2026-11-01-frogs",
    }
    assert found["media"] == [{"filename": "a.jpg", "id": MD5}]
    item = {"scientific_name": "Rana temporaria", "scientific_name_id": "GBIF:2426661", "probability": 0.93521}
    assert found["predictions"] == [{"region_group_id": "all", "taxa": {"type": "multiclass", "items": [item]}}]
    assert found["region_groups"] == [{"id": "all", "regions": []}]
    assert found["observation"] == {"lat": 52.1, "lon": 4.5}
    assert "null" not in json.dumps(found)


@pytest.mark.parametrize(
    ("score", "confidence"),
    [(0.91, "confident"), (0.9, "uncertain"), (0.21, "uncertain"), (0.2, "unknown"), (0.0, "unknown")],
)
def test_confidence_is_a_word(score: float, confidence: str) -> None:
    (candidate,) = IDENTIFICATION.candidates
    found = answer(replace(IDENTIFICATION, candidates=(replace(candidate, score=score),)))
    assert found["identification"] == {"image": {"confidence": confidence}}


def test_a_rejected_answer_is_unknown_and_has_no_candidates_unless_the_client_wants_them() -> None:
    rejected = replace(IDENTIFICATION, judgement=make_judgement(is_known=False))
    found = answer(rejected)
    assert (found["identification"]["image"]["confidence"], found["predictions"][0]["taxa"]["items"]) == ("unknown", [])
    assert len(answer(rejected, no_reject=True)["predictions"][0]["taxa"]["items"]) == 1


def test_keys_of_other_checklists_are_not_called_gbifs() -> None:
    engine = ENGINE.model_copy(update={"checklist_key": "7ddf754f-d193-4cc9-b351-99906754a03b"})
    (item,) = to_answer(IDENTIFICATION, engine, MEDIA, ENGINE.created, {}).predictions[0].taxa.items
    assert item.scientific_name_id == "aitax-ray:2426661"


def test_documentation_describes_the_engine() -> None:
    found = to_documentation(ENGINE).model_dump()
    assert found["model_implementation"] == {"class_count": 1, "version": "2026-11-01-frogs"}
    assert "10.15468/dl.frogs1" in found["description"]["en"]
    assert to_documentation(ENGINE.model_copy(update={"doi": None})).description["en"].endswith("photographs.")
