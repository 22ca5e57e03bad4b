"""The `split` stage: reads the keys of images/ and manifest/, writes split/split.parquet and split/excluded.parquet."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from aitax_ray import workspace
from aitax_ray.dataset.assign import split_occurrences
from aitax_ray.errors import DataError
from aitax_ray.settings import StageSettings
from aitax_ray.workspace import Outcome, StageReport, Workspace

TOO_FEW_IMAGES = "species_with_too_few_images"
NOT_IN_MANIFEST = "not_in_manifest"


class SplitSettings(StageSettings):
    """Settings of `split`."""

    val: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of each species' occurrences for validation; at least one where a species has two or more."""
    test: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of each species' occurrences for the test; at least one where a species has three or more."""
    min_images: Annotated[int, Field(ge=1)] = 2
    """Leave out species with fewer photographs than this."""
    seed: int = 0
    """Seed of all that is drawn: which photographs --number keeps, the split, the training run."""

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> "SplitSettings":
        if self.val + self.test >= 1:
            raise ValueError("--val and --test together must be below 1: the rest is for training")
        return self


def split(settings: SplitSettings) -> StageReport:
    """Put every occurrence, with all its photographs, on one side: train, val or test.

    Reads images/ and, for what the photographs are known to show today, manifest/media. Writes split/split.parquet
    (schemas.SPLIT) and split/excluded.parquet (schemas.EXCLUDED). Raises DataError when fewer than two species are
    left.
    """
    ws = Workspace(settings.root)
    return ws.run("split", settings, ("download", "manifest"), lambda: _split(ws, settings))


def _split(ws: Workspace, settings: SplitSettings) -> Outcome:
    import polars as pl

    from aitax_ray import schemas

    keys = ["image_id", "gbif_id", "species_key"]
    # Sorted by key: the order of shards must not decide anything.
    stored: Any = pl.from_arrow(ws.storage.read_table(workspace.IMAGES, keys, schemas.IMAGES))
    media: Any = pl.from_arrow(ws.storage.read_table(workspace.MEDIA, keys, schemas.MEDIA))
    gone = stored.join(media, on="image_id", how="anti").with_columns(reason=pl.lit(NOT_IN_MANIFEST))
    images = media.join(stored, on="image_id", how="semi")
    images = images.with_columns(num=pl.len().over("species_key")).sort(keys)
    kept = images.filter(pl.col("num") >= settings.min_images)
    species = sorted(kept["species_key"].unique())
    _check_species(species, images["species_key"].n_unique(), settings)
    sides = pl.concat(
        pl.DataFrame({"species_key": key, "gbif_id": list(sides), "split": list(sides.values())})
        for (key,), group in kept.group_by("species_key", maintain_order=True)
        if (sides := split_occurrences(group["gbif_id"], settings.val, settings.test, settings.seed))
    )
    classes = pl.DataFrame({"species_key": species, "class_index": range(len(species))})
    rows = kept.join(sides, on=["species_key", "gbif_id"]).join(classes, on="species_key").sort("image_id")
    excluded = pl.concat(
        [
            images.filter(pl.col("num") < settings.min_images)
            .with_columns(reason=pl.lit(TOO_FEW_IMAGES))
            .select(schemas.EXCLUDED.names),
            gone.select(schemas.EXCLUDED.names),
        ]
    ).sort("image_id")
    for path, table, schema in (
        (workspace.SPLIT, rows, schemas.SPLIT),
        (workspace.EXCLUDED, excluded, schemas.EXCLUDED),
    ):
        ws.storage.write_table(path, table.select(schema.names).to_arrow().cast(schema))
    counts = {side: int((rows["split"] == side).sum()) for side in ("train", "val", "test")}
    tested = rows.filter(pl.col("split") == "test")["species_key"].n_unique()
    return Outcome(
        counts={"species": len(species), **counts, "species_with_test_images": tested},
        reasons=dict(excluded["reason"].value_counts(sort=True).iter_rows()),
    )


def _check_species(species: list[str], num_before: int, settings: SplitSettings) -> None:
    if not species:
        raise DataError(
            f"no species has {settings.min_images} or more photographs: lower --min-images, or take a larger archive"
        )
    if len(species) == 1:
        others = (
            f", {num_before - 1} others have fewer than --min-images {settings.min_images}" if num_before > 1 else ""
        )
        raise DataError(
            f"only one species ({species[0]}) has photographs{others}: a classifier needs two, so widen the query"
        )
