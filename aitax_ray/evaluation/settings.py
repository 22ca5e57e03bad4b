"""Settings of the `evaluate` stage."""

from aitax_ray.training.settings import InferenceSettings


class EvaluateSettings(InferenceSettings):
    """Settings of `evaluate`."""
