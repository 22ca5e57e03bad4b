"""Settings of the `index` stage."""

from typing import Annotated

from pydantic import Field

from aitax_ray.training.settings import InferenceSettings


class IndexSettings(InferenceSettings):
    """Settings of `index`."""

    leaves_to_search: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of ScaNN's tree that a search looks at: more is slower and finds more."""
    reorder: Annotated[int, Field(ge=1)] = 200
    """How many candidates are measured exactly before the best are taken."""
