"""The `split` stage: from stored photographs to a data set.

Reasons for leaving a photograph out are checked in the order of reasons.REASONS. Groups are made of all photographs,
also of those left out as duplicates: they show which occurrences belong together.
"""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from aitax_ray import workspace
from aitax_ray.dataset.assign import SIDES
from aitax_ray.dataset.settings import SplitSettings
from aitax_ray.errors import DataError
from aitax_ray.workspace import Outcome, StageReport, Workspace

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from aitax_ray.dataset.choose import Chosen

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 1 << 18  # that are written

LARGE_GROUP, LARGE_CLUSTER = 0.2, 50  # larger ones are warned of: share of the photographs, photographs


def split(settings: SplitSettings) -> StageReport:
    """Make a data set of the stored photographs: leave out what misleads, and split the rest without leaks.

    Reads images/ and, for what the photographs are known to show today, manifest/. Writes split/split.parquet
    (schemas.SPLIT), split/excluded.parquet (schemas.EXCLUDED), split/attribution.csv, split/related_datasets.json, and
    the data card: split/data_card.html, .json and croissant.json. What was in test, by the same --seed, --test and
    --group-by, stays there (split/tested.parquet). Raises SettingsError, and DataError when photographs that `download`
    stored are no longer there, or when fewer than two species are left.
    """
    from aitax_ray.dataset.split_file import read_split_file

    ws = Workspace(settings.root)
    given_split = None if settings.split_file is None else read_split_file(settings.split_file)
    # Incremental, so that split/tested.parquet stays: what was in test stays there.
    return ws.run(
        "split", settings, ("download", "manifest"), lambda: _split(ws, settings, given_split), incremental=True
    )


def _split(ws: Workspace, settings: SplitSettings, given_split: "pl.DataFrame | None") -> Outcome:
    from aitax_ray.dataset.attribution import write_attribution
    from aitax_ray.dataset.card import write_card

    with tempfile.TemporaryDirectory(prefix="aitax-split-") as folder:
        outcome = _write_sides(ws, settings, Path(folder), given_split)
    if outcome.counts["groups_on_several_sides"]:
        log.warning(
            "--split-file parts %s groups of photographs that belong together: test figures will flatter",
            f"{outcome.counts['groups_on_several_sides']:,}",
        )
    log.info("writing the data card")
    write_attribution(ws)
    write_card(ws, settings.model_dump(mode="json"), outcome)
    return outcome


def _write_sides(ws: Workspace, settings: SplitSettings, folder: Path, given_split: "pl.DataFrame | None") -> Outcome:
    """Write split.parquet and excluded.parquet. What they are made from is kept in `folder`."""
    import polars as pl

    from aitax_ray import schemas
    from aitax_ray.dataset import tested
    from aitax_ray.dataset.choose import choose

    chosen = choose(ws, settings, folder, given_split)
    images = chosen.images
    _check_complete(ws, images.height)
    is_used = pl.col("reason") == ""
    species = images.select(pl.col("species_key").filter(is_used).unique().sort())["species_key"]
    _check_species(species.to_list(), images, settings)
    num_images, groups = images.select(is_used.sum()).item(), _count_groups(images)
    _warn(images, settings, num_images, groups)
    classes = species.cast(pl.String).to_frame().with_columns(class_index=pl.int_range(pl.len(), dtype=pl.Int32))
    in_test = is_used & (pl.col("split") == "test")
    if given_split is None:
        tested.add(ws, settings, chosen.photographs.read(["image_id"], images.select(in_test).to_series())["image_id"])

    def number(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.join(classes, on="species_key", validate="m:1", maintain_order="left")

    _write(ws, workspace.SPLIT, chosen, lambda rows: number(rows.filter(is_used)), schemas.SPLIT)
    _write(ws, workspace.EXCLUDED, chosen, lambda rows: rows.filter(~is_used), schemas.EXCLUDED)
    sides = dict(images.select(pl.col("split").filter(is_used))["split"].value_counts().iter_rows())
    return Outcome(
        counts={
            "species": len(species),
            **{side: sides.get(side, 0) for side in SIDES},
            "species_with_test_images": images.filter(in_test)["species_key"].n_unique(),
            "groups": groups.height,
            "groups_on_several_sides": int(groups["is_parted"].sum()),
        },
        reasons=dict(images.filter(~is_used)["reason"].value_counts(sort=True).iter_rows()),
    )  # fmt: skip


def _write(
    ws: Workspace,
    path: str,
    chosen: "Chosen",
    choose_rows: "Callable[[pl.DataFrame], pl.DataFrame]",
    schema: "pa.Schema",
) -> None:
    """Write some rows of the photographs, a part of these at a time: a copy of all would take as much memory again."""
    parts = (choose_rows(rows).select(schema.names) for rows in chosen.with_keys(ROWS_AT_ONCE))
    ws.storage.write_tables(path, (rows.to_arrow() for rows in parts if rows.height), schema)


def _count_groups(images: "pl.DataFrame") -> "pl.DataFrame":
    """Count the photographs used of each group, and tell whether they are on several sides: `len`, `is_parted`."""
    import polars as pl

    used = images.lazy().filter(pl.col("reason") == "")
    counts = (
        used.select("group", side=pl.col("split").to_physical())
        .group_by("group")
        .agg(pl.len(), least=pl.min("side"), most=pl.max("side"))
    )
    return counts.select("len", is_parted=pl.col("least") != pl.col("most")).collect()


def _check_complete(ws: Workspace, num_stored: int) -> None:
    """Raise DataError when files of images/ are missing: the data set would be smaller, and nobody would know."""
    counts = ws.require("download").counts
    num_expected = counts.get("ok", 0) + counts.get("vanished", 0)
    if num_stored < num_expected:
        raise DataError(
            f"{workspace.IMAGES}/ holds {num_stored:,} photographs, and `download` stored {num_expected:,}: "
            f"run `aitax download --root {ws.root}` again, which fetches those that are missing"
        )


def _warn(images: "pl.DataFrame", settings: SplitSettings, num_used: int, groups: "pl.DataFrame") -> None:
    """Say what people should look at before they train."""
    import polars as pl

    unknown = int(images["has_hash"].not_().sum())
    if unknown:
        log.warning(
            "of %s photographs no hash is known, so copies among them are not found: an earlier version stored them; "
            "`aitax download --force` fetches them again",
            f"{unknown:,}",
        )
    largest = groups["len"].max()
    if isinstance(largest, int) and largest > LARGE_GROUP * num_used:
        log.warning(
            "one group holds %s of %s photographs, so shares cannot be kept: ask for less in --group-by, or for a "
            "lower --max-distance",
            f"{largest:,}",
            f"{num_used:,}",
        )
    cluster = images.filter(pl.col("cluster") != "").group_by("cluster").len().sort("len", "cluster").tail(1)
    if cluster.height and cluster["len"][0] > LARGE_CLUSTER:
        log.warning(
            "%s photographs, such as %s, are taken for copies of each other: if they are different ones on one "
            "backdrop, lower --max-distance (%s)",
            f"{cluster['len'][0]:,}",
            cluster["cluster"][0],
            settings.max_distance,
        )


def _check_species(species: list[str], images: "pl.DataFrame", settings: SplitSettings) -> None:
    if len(species) > 1:
        return
    num_before = images["species_key"].n_unique()
    num_by_reason = dict(images["reason"].value_counts(sort=True).iter_rows())
    num_by_reason.pop("", None)
    why = ", ".join(f"{number:,} {reason}" for reason, number in num_by_reason.items())
    if not species and settings.split_file is not None and num_by_reason.get("not_in_split_file"):
        raise DataError(f"--split-file names no photograph that can be used (left out: {why}): look at its keys")
    if not species:
        raise DataError(
            f"no species has {settings.min_images} or more photographs that can be used (left out: {why}): "
            "lower --min-images, or take a larger archive"
        )
    others = f", {num_before - 1} others have none that can be used (left out: {why})" if num_before > 1 else ""
    raise DataError(
        f"only one species ({species[0]}) has photographs{others}: a classifier needs two, so widen the query"
    )
