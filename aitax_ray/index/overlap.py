"""Chooses which photographs of another root are added: none twice, and none that evaluation would measure wrongly."""

from typing import TYPE_CHECKING

from aitax_ray.dataset.duplicates import find_clusters
from aitax_ray.dataset.photographs import HASH_BYTES

if TYPE_CHECKING:
    import polars as pl

# Why a photograph of the other root is left out. "Here" is the root that it would be added to.
IN_TRAIN = "already_indexed"  # it, or one that looks the same, is a training photograph here
IN_TEST = "in_validation_or_test"  # it, or one that looks the same, is in val or test here
OCCURRENCE = "occurrence_on_another_side"  # its occurrence is on another side of the split here
WITHDRAWN = "withdrawn"  # its author asked to withdraw it
NO_TRAINING_IMAGES = "species_without_training_images"  # of a new species, and no training photograph of it is added
COLUMNS = ("image_id", "gbif_id", "species_key", "split", "group", "jpeg_sha256", "phash")


def find_overlap(here: "pl.DataFrame", other: "pl.DataFrame", known: list[str], max_distance: int) -> "pl.Series":
    """Find the reason why each photograph of `other` is left out, "" if it is added.

    Both tables have COLUMNS. `here` holds the photographs of all sides, and those of earlier roots that are added.
    `known` are the species keys of the trained classes. Photographs look the same as in `aitax split`.
    """
    import polars as pl

    both = pl.concat([here.select(COLUMNS), other.select(COLUMNS)])
    hashes = both["phash"].drop_nulls().bin.reinterpret(dtype=pl.Array(pl.UInt8, HASH_BYTES)).to_numpy()
    is_hashed = both["phash"].is_not_null().to_numpy()
    cluster = find_clusters(both["jpeg_sha256"], hashes, is_hashed, max_distance)
    both = both.with_columns(cluster=pl.Series(cluster))
    here, other = both.head(here.height), both.tail(other.height)

    def looks_like(side: "pl.Expr") -> "pl.Expr":
        some = here.filter(side)
        return pl.any_horizontal(pl.col(key).is_in(some[key].implode()) for key in ("image_id", "cluster"))

    def is_split_across(*keys: str) -> "pl.Series":
        """Whether photographs with the same keys, which are not empty, are on another side here."""
        given = here.filter(pl.all_horizontal(pl.col(key).fill_null("") != "" for key in keys))
        sides = given.group_by(keys).agg(sides=pl.col("split").unique())
        found = other.join(sides, on=keys, how="left", validate="m:1", maintain_order="left")
        return found.select(is_split=pl.col("sides").list.set_difference(pl.concat_list("split")).list.len() > 0)[
            "is_split"
        ].fill_null(False)

    is_split = is_split_across("gbif_id", "species_key") | is_split_across("group")
    judged = other.select(
        "species_key",
        "split",
        reason=pl.when(looks_like(pl.col("split") != "train"))
        .then(pl.lit(IN_TEST))
        .when(looks_like(pl.col("split") == "train"))
        .then(pl.lit(IN_TRAIN))
        .when(is_split)
        .then(pl.lit(OCCURRENCE))
        .otherwise(pl.lit("")),
    )
    trained = judged.filter(reason="", split="train")["species_key"].to_list()
    is_without = (pl.col("reason") == "") & ~pl.col("species_key").is_in([*known, *trained])
    return judged.select(reason=pl.when(is_without).then(pl.lit(NO_TRAINING_IMAGES)).otherwise("reason"))["reason"]
