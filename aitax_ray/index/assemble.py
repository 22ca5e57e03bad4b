"""Assembles the shards of an index from what other stages know of each photograph, and from its embedding."""

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from aitax_ray import schemas, workspace
from aitax_ray.errors import DataError, EngineError
from aitax_ray.index.added import read_joined, read_joined_of
from aitax_ray.index.build import SearchOptions
from aitax_ray.index.search_info import SEARCH, SearchInfo
from aitax_ray.index.settings import IndexSettings
from aitax_ray.index.shards import THUMBNAILS, local_copy, write_shard
from aitax_ray.index.thumbnails import pack_thumbnails
from aitax_ray.joins import look_up
from aitax_ray.licenses import Policy, is_admitted
from aitax_ray.schemas import DATASET_KEY
from aitax_ray.web import web_address
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

    from aitax_ray.training.feed import Labels


@dataclass(frozen=True)
class Share:
    """The photographs of a shard, in the order of its rows."""

    number: int
    image_ids: np.ndarray
    """S40 (N,)."""
    class_index: np.ndarray
    """int32 (N,)."""
    num_of_all: int = 0
    """Number of photographs of all shards. 0: this is the only one."""


def divide(labels: "Labels", photographs_per_shard: int) -> list[Share]:
    """Divide the photographs among shards of about one size, none larger than `photographs_per_shard`."""
    order = np.lexsort((labels.image_ids, labels.class_index))
    parts = np.array_split(order, max(1, -(-len(order) // photographs_per_shard)))
    return [Share(n, labels.image_ids[part], labels.class_index[part], len(order)) for n, part in enumerate(parts)]


def write_share(
    ws: Workspace, settings: IndexSettings, batches: Callable[[], Iterable[pa.Table]], share: Share
) -> None:
    """Write the shard of these photographs to storage. `batches` yields tables of schemas.EMBEDDINGS, in any order."""
    rows, vectors = make_rows(ws, share, settings.shown_license), collect(batches(), share.image_ids)
    with tempfile.TemporaryDirectory(prefix="aitax-shard-") as folder:
        if settings.thumbnails:
            rows = add_thumbnails(ws, settings.thumbnail_size, rows, Path(folder) / THUMBNAILS)
        place = f"{workspace.SHARDS}/{share.number:05}"
        options = search_options(settings, share.num_of_all)
        with tempfile.TemporaryDirectory(prefix="aitax-earlier-") as copy:
            previous = None
            if not settings.force and _is_alike(ws, place, options):
                previous = local_copy(ws.storage, place, Path(copy))
            write_shard(Path(folder), rows, vectors, options, previous)
        ws.storage.delete(place)
        ws.storage.upload(Path(folder), place)


def _is_alike(ws: Workspace, place: str, options: SearchOptions) -> bool:
    """Say whether there is an earlier shard, and whether its search was chosen for the same settings."""
    path = f"{place}/{SEARCH}"
    try:
        return ws.storage.exists(path) and SearchInfo.parse(ws.storage.read_bytes(path), place).asked == options.asked
    except EngineError:  # an earlier version wrote it
        return False


def search_options(settings: IndexSettings, num_vectors: int) -> SearchOptions:
    """Give the settings of the search, for `num_vectors` photographs in all shards."""
    names = ("leaves", "leaves_to_search", "reorder", "compression", "recall", "memory")
    return SearchOptions(**{name: getattr(settings, name) for name in names}, num_vectors=num_vectors)


def collect(batches: Iterable[pa.Table], image_ids: np.ndarray) -> np.ndarray:
    """Collect the embeddings of some photographs, S40 (N,), in this order: float16 (N, D).

    Raises DataError when one has no embedding.
    """
    order = np.argsort(image_ids)
    in_order = image_ids[order]
    vectors, is_found = np.zeros((len(image_ids), 0), np.float16), np.zeros(len(image_ids), bool)
    for batch in batches:
        keys = np.array(batch["image_id"].to_pylist(), dtype="S40")
        place = np.minimum(np.searchsorted(in_order, keys), len(in_order) - 1)
        wanted = in_order[place] == keys
        if not wanted.any():
            continue
        flat = batch["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        unit = flat.reshape(len(keys), -1)
        if not vectors.shape[1]:
            vectors = np.zeros((len(image_ids), unit.shape[1]), np.float16)
        target = order[place[wanted]]
        vectors[target], is_found[target] = unit[wanted], True
    if not is_found.all():
        raise DataError(
            f"{int((~is_found).sum()):,} photographs have no embedding, such as "
            f"{image_ids[~is_found][0].decode()}: run `aitax index --force`"
        )
    return vectors


def add_thumbnails(ws: Workspace, size: int, rows: pa.Table, target: Path) -> pa.Table:
    """Write the thumbnails of rows of schemas.INDEX_ROWS into a local file, and their places in it into the rows."""
    image_ids = np.array(rows["image_id"].to_pylist(), "S40")
    places = pack_thumbnails(ws.storage, size, image_ids, rows["is_shown"].to_pylist(), target)
    for name, values in zip(("thumbnail_offset", "thumbnail_length"), places, strict=True):
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), pa.array(values))
    return rows


def find_hidden(ws: Workspace, show: Policy) -> set[str]:
    """Find the photographs of the manifest that answers may not show."""
    import polars as pl

    if show == "any":
        return set()
    media: Any = pl.from_arrow(read_joined(ws, workspace.MEDIA, ["image_id", "license_id"], schemas.MEDIA))
    return set(media.filter(~pl.col("license_id").is_in(_admitted(media, show)))["image_id"])


def make_rows(ws: Workspace, share: Share, show: Policy = "any") -> pa.Table:
    """Make the rows of schemas.INDEX_ROWS of these photographs, without addresses that only this machine can open."""
    import polars as pl

    keys = [key.decode() for key in share.image_ids]
    split = read_joined_of(ws, workspace.SPLIT, "image_id", pa.array(keys, pa.string()), schemas.SPLIT)
    media = read_joined_of(ws, workspace.MEDIA, "image_id", pa.array(keys, pa.string()), schemas.MEDIA)
    rows: Any = look_up(keys, media, "image_id", workspace.MEDIA)
    rows = _add_event_dates(ws, rows).with_columns(
        pl.col("url", "references").map_elements(web_address, pl.String),
        look_up(keys, split, "image_id", workspace.SPLIT)["split"],
        pl.Series("class_index", share.class_index),
        is_at_gbif=pl.col("gbif_id").str.contains(r"^[0-9]+$") & pl.col("dataset_key").str.contains(DATASET_KEY),
        is_shown=pl.col("license_id").is_in(_admitted(rows, show)),
        thumbnail_offset=0,
        thumbnail_length=0,
    )
    return rows.select(schemas.INDEX_ROWS.names).to_arrow().cast(schemas.INDEX_ROWS)


def _add_event_dates(ws: Workspace, rows: Any) -> Any:
    """Add event_date to rows with gbif_id and species_key, "" where it is not known."""
    import polars as pl

    columns = ["gbif_id", "species_key", "event_date"]
    occurrences = rows["gbif_id"].unique().to_arrow().cast(pa.string())
    seen: Any = pl.from_arrow(
        read_joined_of(ws, workspace.OCCURRENCES, "gbif_id", occurrences, schemas.OCCURRENCES).select(columns)
    )
    seen = seen.join(rows, on="gbif_id", how="semi").unique(columns[:2], keep="first", maintain_order=True)
    found = rows.join(seen, on=columns[:2], how="left", validate="m:1", maintain_order="left")
    return found.with_columns(pl.col("event_date").fill_null(""))


def _admitted(media: "pl.DataFrame", show: Policy) -> list[str]:
    """The licences among those of rows of schemas.MEDIA that a policy admits."""
    return [name for name in media["license_id"].unique() if is_admitted(name, show)]
