"""Settings of the `publish` stage."""

from typing import Annotated

from pydantic import Field

from aitax_ray.settings import StageSettings


class PublishSettings(StageSettings):
    """Settings of `publish`."""

    min_score: Annotated[float, Field(ge=0, le=1)] = 0.005
    """Answers leave out species with a lower score."""
    max_total_score: Annotated[float, Field(gt=0, le=1)] = 0.99
    """Answers end when the sum of the scores reaches this."""
