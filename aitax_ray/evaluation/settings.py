"""Settings of the `evaluate` stage."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from aitax_ray.training.settings import InferenceSettings


class EvaluateSettings(InferenceSettings):
    """Settings of `evaluate`."""

    target_precision: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Share of right answers that is wanted among accepted answers, and among answers at species, genus and family."""
    coverage: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Share of the candidate sets that are to hold the right species."""
    false_reject_rate: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of photographs of known species that may be rejected as unknown."""
    min_group: Annotated[int, Field(ge=1)] = 30
    """Measure a country, publisher, year, basis of record or licence alone from this many test photographs on."""
    compare: str | None = None
    """Compare with this engine or root, on the photographs that both were tested with; default: the current engine."""
    photos: Path | None = None
    """Evaluate on these photographs too, a folder per species; writes evaluation/photos/."""

    def result_fields(self) -> dict[str, Any]:
        """The settings that decide what comes out, and what the folder of photographs holds."""
        from aitax_ray.evaluation.external import digest_folder

        fields = super().result_fields()
        if self.photos is not None:
            fields["photos_digest"] = digest_folder(self.photos)
        return fields

    @field_validator("photos")
    @classmethod
    def _is_a_folder(cls, given: Path | None) -> Path | None:
        if given is not None and not given.is_dir():
            raise ValueError("there is no such folder")
        return given
