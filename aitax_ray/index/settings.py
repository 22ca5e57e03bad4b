"""Settings of the `index` stage."""

from typing import Annotated

from pydantic import Field

from aitax_ray.training.settings import InferenceSettings


class IndexSettings(InferenceSettings):
    """Settings of `index`."""

    leaves_to_search: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the leaves of ScaNN's tree that a search reads: a larger share is slower and finds more."""
    reorder: Annotated[int, Field(ge=1)] = 200
    """Number of candidates whose similarity a search computes exactly."""
    photographs_per_shard: Annotated[int, Field(ge=1)] = 1_000_000
    """Maximum number of photographs in a shard. Shards are built and searched in parallel."""
