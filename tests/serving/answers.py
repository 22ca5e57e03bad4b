"""Answers of an identification, for tests of what is made from them."""

from typing import Any

from aitax_ray.serving.identifier import Candidate, Identification
from aitax_ray.serving.judgement import GroupScore, Judgement


def make_judgement(**changes: Any) -> Judgement:
    """A judgement of an answer that is sure of its species."""
    known: dict[str, Any] = {"is_known": True, "rank": "species", "name": "Rana temporaria", "score": 0.9}
    known |= {"is_accepted": True, "precision": 0.95, "candidates": ("2427091",), "promise": 0.9, "lookalikes": ()}
    return Judgement(**{**known, "similarity": 0.87654, **changes})


def make_identification(*candidates: Candidate, **changes: Any) -> Identification:
    """An answer with these candidates."""
    genera, families = (GroupScore("Rana", 0.9),), (GroupScore("Ranidae", 0.95),)
    return Identification(candidates, make_judgement(**changes), genera, families, "v1")
