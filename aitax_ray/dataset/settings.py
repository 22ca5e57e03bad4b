"""Settings of the `split` stage."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from aitax_ray.dataset.groups import GroupBy
from aitax_ray.dataset.rules import MIN_SIDE
from aitax_ray.licenses import Policy
from aitax_ray.settings import HOW, StageSettings


class SplitSettings(StageSettings):
    """Settings of `split`."""

    val: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the groups (see --group-by) for validation. A species with two groups or more gets at least one."""
    test: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the groups (see --group-by) for the test. A species with three groups or more gets at least one."""
    group_by: tuple[GroupBy, ...] = ()
    """A group holds an occurrence's photographs. Add those of an observer's day, or those of a place (1 km)."""
    split_file: Annotated[Path, HOW] | None = None
    """File with a split: CSV or Parquet with `split` and one of image_id, url or gbif_id. Others are left out."""
    min_images: Annotated[int, Field(ge=1)] = 2
    """Leave out species with fewer photographs than this."""
    max_images: Annotated[int, Field(ge=1)] | None = None
    """At most this many photographs per species, drawn by --seed. The order of the rows has no influence."""
    holdout_species: Annotated[int, Field(ge=0)] = 0
    """Leave this many species out. `evaluate` then measures how well the engine recognizes unknown species."""
    labels: Literal["weighted", "any", "not-machine", "verified"] = "weighted"
    """Labels to use: weighted (doubtful ones count half and only train), any, not-machine, or verified."""
    license: Policy = "any"
    """Which licences to use: open (CC0, BY, BY-SA), non-commercial (any Creative Commons), or any."""
    max_distance: Annotated[int, Field(ge=0, le=64)] = 16
    """Photographs are duplicates if at most this many of their 256 hash bits differ; 0: only if pixels are equal."""
    rules: bool = True
    """Leave out what shows no organism: pages of books, sonograms, labels, drawings, thumbnails, single colours."""
    min_side: Annotated[int, Field(ge=0)] = MIN_SIDE
    """A thumbnail is a photograph whose longer side is below this, in px, or below --image-size if that is less."""
    seed: int = 0
    """Seed of all random choices: the photographs that `manifest --number` keeps, the split, the training run."""

    def result_fields(self) -> dict[str, Any]:
        """The settings that decide what comes out, and the content of the split file."""
        fields = super().result_fields()
        if self.split_file is not None and self.split_file.is_file():
            fields["split_file_sha256"] = hashlib.sha256(self.split_file.read_bytes()).hexdigest()
        return fields

    @field_validator("split_file")
    @classmethod
    def _exists(cls, given: Path | None) -> Path | None:
        if given is not None and not given.is_file():
            raise ValueError("there is no such file")
        return given

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> "SplitSettings":
        if self.val + self.test >= 1:
            raise ValueError("--val and --test together must be below 1: the rest is for training")
        return self
