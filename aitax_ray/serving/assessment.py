"""What answers of every format have in fields of ours: how far to believe them, what was seen where, what is kept.

Older clients ignore it.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from aitax_ray.serving.judgement import Judgement


def left_out_if_none() -> Any:
    """Make a field that an answer lacks where there is no value: some clients cannot read null."""
    return Field(default=None, exclude_if=lambda value: value is None)


class Assessment(BaseModel):
    """How far the answer can be believed."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    is_known: bool
    """False: probably no species that the engine knows."""
    rank: str
    """The lowest rank that is certain enough: species, genus, family, or "" for none."""
    name: str
    score: float
    is_accepted: bool
    """The best species may be accepted without a look at the photograph."""
    precision: float
    """Share of accepted answers that should be right."""
    candidates: list[str]
    """Keys of the species among which the right one is, with the probability `promise`."""
    promise: float
    lookalikes: list[str]
    """Names of the species that the engine cannot separate from the best one."""
    similarity: float
    """Cosine with the most similar photograph that the engine knows, of any species."""


class Observation(BaseModel):
    """Where and when the individual was seen, as the request says. Answers repeat it; nothing else uses it yet."""

    model_config = ConfigDict(frozen=True)

    lat: float | None = left_out_if_none()
    lon: float | None = left_out_if_none()
    date: str | None = left_out_if_none()


class Kept(BaseModel):
    """The photographs of the request are kept: what is needed to delete them."""

    model_config = ConfigDict(frozen=True)

    id: str
    token: str
    """Only this answer has it."""


def to_assessment(judgement: Judgement) -> Assessment:
    """Convert a judgement to its form on the wire."""
    return Assessment(
        is_known=judgement.is_known,
        rank=judgement.rank,
        name=judgement.name,
        score=round(judgement.score, 5),
        is_accepted=judgement.is_accepted,
        precision=judgement.precision,
        candidates=list(judgement.candidates),
        promise=judgement.promise,
        lookalikes=list(judgement.lookalikes),
        similarity=round(judgement.similarity, 4),
    )
