"""serving.assessment: what answers say beside their format."""

from aitax_ray.serving.assessment import Observation, to_assessment
from tests.serving.answers import make_judgement


def test_an_assessment_has_all_of_a_judgement_with_rounded_figures() -> None:
    judgement = make_judgement(score=0.123456789, lookalikes=("Rana arvalis",))
    assert to_assessment(judgement).model_dump(by_alias=True) == {
        "isKnown": True,
        "rank": "species",
        "name": "Rana temporaria",
        "score": 0.12346,
        "isAccepted": True,
        "precision": 0.95,
        "candidates": ["2427091"],
        "promise": 0.9,
        "lookalikes": ["Rana arvalis"],
        "similarity": 0.8765,
    }


def test_an_observation_has_only_what_is_known() -> None:
    assert Observation(lat=1.0, lon=2.0).model_dump_json() == '{"lat":1.0,"lon":2.0}'
    assert Observation(date="2026").model_dump_json() == '{"date":"2026"}'
