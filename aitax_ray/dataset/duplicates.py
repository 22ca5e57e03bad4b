"""Photographs that look the same: one per species is kept; none if they are listed under several species.

A label with a weight below 1 is doubtful: it does not contradict those that are believed, and its photograph is the
last to be kept.
"""

from typing import TYPE_CHECKING

from aitax_ray.dataset.reasons import EXACT_DUPLICATE, NEAR_DUPLICATE

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

# Without versions, the least demanding first. All others rank last.
LICENSES = (
    "CC0", "CC-PDM", "public-domain", "CC-BY", "CC-BY-SA", "CC-BY-ND", "CC-BY-NC", "CC-BY-NC-SA", "CC-BY-NC-ND",
)  # fmt: skip


def find_clusters(
    sha256: "pl.Series", hashes: "NDArray[np.uint8]", is_hashed: "NDArray[np.bool_]", max_distance: int
) -> "NDArray[np.int64]":
    """Number each of n photographs by the first one of its cluster, of those that look the same.

    INPUT: the sha256 of each photograph's JPEG, null or "" where it is not known; which photographs have a perceptual
    hash, and these hashes. The same pixels are always one cluster; others are where their hashes differ in at most
    `max_distance` bits, unless that is 0.
    """
    import numpy as np
    import polars as pl

    from aitax_ray.dataset.components import components
    from aitax_ray.dataset.similar import clusters

    num = len(sha256)
    sha256 = sha256.replace("", None)
    # Few are alike: only these are grouped.
    same = pl.DataFrame({"number": pl.int_range(num, eager=True), "sha256": sha256}).filter(
        sha256.is_duplicated() & sha256.is_not_null()
    )
    del sha256
    same = same.select("number", first=pl.col("number").min().over("sha256"))
    links = [(same["number"].to_numpy(), same["first"].to_numpy())]
    if max_distance > 0 and len(hashes):
        own = np.flatnonzero(is_hashed)
        found = own[clusters(hashes, max_distance)]
        is_linked = found != own
        links.append((own[is_linked], found[is_linked]))
    return components(num, *(np.concatenate(side).astype(np.int64) for side in zip(*links, strict=True)))


def contradictions(images: "pl.DataFrame") -> "pl.Series":
    """Join the names of the species of each photograph's cluster; "" if nothing contradicts the photograph's own.

    INPUT: species_key, name (of the species), cluster, weight (of the label).
    """
    import polars as pl

    names = pl.col("name").unique().sort().str.join(" | ").over("cluster")
    several = pl.col("species_key").n_unique().over("cluster") > 1
    is_believed = pl.col("weight") == 1
    agreed = is_believed & (pl.col("species_key").filter(is_believed).n_unique().over("cluster") == 1)
    return images.select(species=pl.when(several & ~agreed).then(names).otherwise(pl.lit("")))["species"]


def copies(images: "pl.DataFrame") -> "pl.DataFrame":
    """Find the copies of photographs that are kept: `reason` ("" if kept) and `detail`, the photograph kept instead.

    INPUT: image_id, cluster, jpeg_sha256, license_id, width, height, weight, of clusters of one species. The highest
    weight is kept, then the freest licence, then the largest, then the smallest image_id. OUTPUT: a row for each
    photograph, in their order.
    """
    import polars as pl

    ordered = (
        images.with_row_index("number")
        .filter(pl.len().over("cluster") > 1)
        .with_columns(
            license=_restrictions(pl.col("license_id")), size=-pl.col("width").cast(pl.Int64) * pl.col("height")
        )
        .sort("cluster", -pl.col("weight"), "license", "size", "image_id")
    )
    kept, sha = (pl.col(name).first().over("cluster") for name in ("image_id", "jpeg_sha256"))
    judged = ordered.select(
        "number",
        reason=pl.when((pl.col("jpeg_sha256") != "") & (pl.col("jpeg_sha256") == sha))
        .then(pl.lit(EXACT_DUPLICATE))
        .otherwise(pl.lit(NEAR_DUPLICATE)),
        detail=kept,
        is_kept=pl.col("image_id") == kept,
    ).filter(~pl.col("is_kept"))
    rows = images.select(pl.row_index("number")).join(
        judged, on="number", how="left", validate="1:1", maintain_order="left"
    )
    return rows.select(pl.col("reason", "detail").fill_null(""))


def _restrictions(license_id: "pl.Expr") -> "pl.Expr":
    """Rank licences by what they ask for: their place among LICENSES."""
    import polars as pl

    ranks = {name: rank for rank, name in enumerate(LICENSES)}
    name = license_id.cast(pl.String).str.replace(r"-\d.*$", "")
    return name.replace_strict(ranks, default=len(LICENSES), return_dtype=pl.Int8)
