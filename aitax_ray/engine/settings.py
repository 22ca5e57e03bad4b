"""Settings of the `publish` stage."""

from typing import Annotated, Literal

from pydantic import Field

from aitax_ray.settings import StageSettings


class PublishSettings(StageSettings):
    """Settings of `publish`."""

    min_score: Annotated[float, Field(ge=0, le=1)] = 0.005
    """Answers leave out species with a lower score."""
    max_total_score: Annotated[float, Field(gt=0, le=1)] = 0.99
    """Answers end when the sum of the scores reaches this."""
    quantize: Literal["none", "int8"] = "none"
    """Numbers to compute with: int8 makes a file a quarter as large, which is faster on processors with VNNI."""
    quantization: Literal["auto", "static", "dynamic"] = "auto"
    """Scales of int8: static, from training photographs; dynamic, anew for each batch; auto takes what suits --arch."""
    max_quantization_loss: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Largest loss of top-1 on test photographs that int8 may cost, as a share; above it nothing is published."""
