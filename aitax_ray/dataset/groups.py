"""Groups: photographs that the split keeps on one side, since they show the same individual, day or place.

Occurrences that have a photograph in common, or one that looks the same, are one group; by settings also those of one
observer on one day, and those of one place.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from aitax_ray.dataset.dates import extract_day

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

GroupBy = Literal["observer-day", "place"]
PLACE_DEGREES = 0.01  # side of a place's cell: 1.1 km from south to north, less from west to east


def keys(occurrences: "pl.DataFrame", group_by: Sequence[GroupBy]) -> "pl.DataFrame":
    """Find the keys by which each occurrence is grouped.

    INPUT: gbif_id, species_key and, for `group_by`, recorded_by, event_date, decimal_latitude, decimal_longitude as in
    schemas.OCCURRENCES. OUTPUT: species_key, gbif_id; `day`, of an observer, and `place`, null where they are not known
    or not asked for. A day without an observer is no key, nor is the place 0, 0.
    """
    import polars as pl

    day = place = pl.lit(None, pl.String)
    if "observer-day" in group_by:
        date = extract_day(pl.col("event_date"))
        who = pl.col("recorded_by").str.normalize("NFC").str.strip_chars().replace("", None)
        day = pl.concat_str(pl.lit("observer-day"), who, date, separator="\0")
    if "place" in group_by:
        north, east = pl.col("decimal_latitude"), pl.col("decimal_longitude")
        known = north.is_finite() & east.is_finite() & ~((north == 0) & (east == 0))
        cells = [(degrees / PLACE_DEGREES).floor().cast(pl.Int32, strict=False) for degrees in (north, east)]
        place = pl.when(known).then(pl.concat_str(pl.lit("place"), *cells, separator="\0"))
    unique = occurrences.unique(["species_key", "gbif_id"], keep="first", maintain_order=True)
    return unique.select("species_key", "gbif_id", day=day, place=place)


def group(
    images: "pl.DataFrame", known: "pl.DataFrame", shared: "pl.DataFrame | None" = None
) -> "tuple[NDArray[np.int64], pl.Series]":
    """Give each photograph its group.

    INPUT: images with species_key, gbif_id and cluster, "" for one that looks like no other; `known` as `keys` gives
    it; `shared`, like images, further occurrences of the same photographs. OUTPUT: for each photograph, in their
    order, the number of the smallest of the keys that are linked; and the keys by their numbers, sorted. An occurrence
    counts with its place if it has one, else with its day, else with itself.
    """
    import numpy as np
    import polars as pl

    from aitax_ray.dataset.components import components

    columns = ["species_key", "gbif_id", "cluster"]
    rows = images.select(columns) if shared is None else pl.concat([images.select(columns), shared.select(columns)])
    occurrence = pl.concat_str(pl.lit("occurrence"), "species_key", "gbif_id", separator="\0")
    if known.height:
        known = known.with_columns(pl.col("species_key").cast(rows["species_key"].dtype))
        rows = rows.join(known, on=["species_key", "gbif_id"], how="left", validate="m:1", maintain_order="left")
        rows = rows.select("cluster", "day", anchor=pl.coalesce("place", "day", occurrence))
        has_day = rows["day"].is_not_null()
        nodes, names = number(pl.concat([rows["anchor"], rows["day"].drop_nulls()]))
        anchors, days = nodes[: rows.height], nodes[rows.height :]
        links = [(anchors[has_day.to_numpy()], days)]
    else:
        rows = rows.select("cluster", anchor=occurrence)
        anchors, names = number(rows["anchor"])
        links = []
    alike = pl.DataFrame({"cluster": rows["cluster"], "node": anchors}).filter(pl.col("cluster") != "")
    alike = alike.select("node", first=pl.col("node").first().over("cluster"))
    links.append((alike["node"].to_numpy(), alike["first"].to_numpy()))
    lowest = components(len(names), *(np.concatenate(side) for side in zip(*links, strict=True)))
    # A day may be a node without being an anchor: the name is taken from the anchors.
    first = np.full(len(names), len(names))
    np.minimum.at(first, lowest[anchors], anchors)
    return first[lowest[anchors[: images.height]]], names


def number(texts: "pl.Series") -> "tuple[NDArray[np.int64], pl.Series]":
    """Number equal texts alike, in the order of the texts. OUTPUT: the number of each text, and the text of each."""
    import numpy as np
    import polars as pl

    order = texts.arg_sort().to_numpy()
    ordered = texts.gather(order)
    is_new = ordered.ne_missing(ordered.shift(1)).to_numpy().copy()
    is_new[:1] = True
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(is_new) - 1
    return numbers, ordered.filter(pl.Series(is_new))
