"""Settings of the `publish` stage."""

from typing import Annotated, Literal

from pydantic import Field

from aitax_ray.settings import HOW, StageSettings


class PublishSettings(StageSettings):
    """Settings of `publish`."""

    min_score: Annotated[float, Field(ge=0, le=1)] = 0.005
    """Answers leave out species with a lower score."""
    max_total_score: Annotated[float, Field(gt=0, le=1)] = 0.99
    """Answers end when the sum of the scores reaches this."""
    quantize: Literal["none", "int8"] = "none"
    """Number format: int8 makes the file a quarter as large, and faster on CPUs with VNNI; none keeps float32."""
    quantization: Literal["auto", "static", "dynamic"] = "auto"
    """Scales of int8: static (from training photographs), dynamic (again for each batch), or auto (by --arch)."""
    max_quantization_loss: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Largest loss of top-1 by int8 on test photographs, as a share. With a larger loss nothing is published."""
    allow_worse: bool = False
    """Publish also an engine that is significantly worse than the current one on the photographs of both tests."""
    to: Annotated[str | None, HOW] = None
    """Copy the current engine to this folder or URL as well, and make it the current one there."""
