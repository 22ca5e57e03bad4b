"""Takes photographs out of the shards of an index that exists: of their rows, vectors and thumbnails, and the search.

A shard without some photographs is first a new folder. `rows.arrow` is written last and deleted first: a folder without
it is none of a shard.
"""

import contextlib
import logging
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import LocalFileSystem

from aitax_ray.index.build import SearchOptions, bytes_in_memory
from aitax_ray.index.search_info import SearchInfo
from aitax_ray.index.shards import ROWS, THUMBNAILS, Shard, write_shard
from aitax_ray.storage import Storage

log = logging.getLogger(__name__)

NEW = "-new"  # behind the name of the folder that takes the place of a shard


def drop_photographs(storage: Storage, place: str, image_ids: Collection[str]) -> int:
    """Replace each shard below `place` that holds some of the photographs; return how many rows were dropped.

    After a kill the same call goes on. A shard of which no photograph is left is deleted.
    """
    for path in storage.entries(place):  # what a kill left
        if not storage.exists(f"{path}/{ROWS}") and not storage.exists(f"{path}{NEW}/{ROWS}"):
            storage.delete(path)
        elif path.endswith(NEW):
            _replace(storage, path.removesuffix(NEW))
    dropped = 0
    for path in storage.entries(place):
        num = write_without(storage, path, f"{path}{NEW}", image_ids)
        if storage.exists(f"{path}{NEW}/{ROWS}"):
            _replace(storage, path)
        elif num:
            delete_shard(storage, path)
        dropped += num
    return dropped


def _replace(storage: Storage, path: str) -> None:
    """Let the new folder take the place of a shard."""
    new = f"{path}{NEW}"
    delete_shard(storage, path)
    files = [file.path for file in storage.files(new)]
    for file in sorted(files, key=lambda name: name == f"{new}/{ROWS}"):
        storage.copy(file, f"{path}{file.removeprefix(new)}")
    delete_shard(storage, new)


def write_without(storage: Storage, source: str, target: str, image_ids: Collection[str]) -> int:
    """Write the shard `source` without some photographs to `target`; return how many it lacks.

    Nothing is written when it holds none of them, or no others.
    """
    with _local(storage, source, (ROWS,)) as folder:
        is_kept = pc.invert(pc.is_in(_image_ids(folder), pa.array(sorted(image_ids), pa.string())))
    kept = is_kept.to_numpy(zero_copy_only=False)
    num = len(kept) - int(kept.sum())
    if not num or num == len(kept):
        return num
    with _local(storage, source) as folder, tempfile.TemporaryDirectory(prefix="aitax-shard-") as top:
        new, only_rows = Path(top, "shard"), Path(top, "rows")
        new.mkdir()
        only_rows.mkdir()
        shard = Shard(folder)
        rows = shard.rows.filter(pa.array(kept))
        if (folder / THUMBNAILS).exists():
            rows = _copy_thumbnails(folder / THUMBNAILS, new / THUMBNAILS, rows)
        vectors = np.asarray(shard.vectors[kept])
        write_shard(new, rows, vectors, _same_options(SearchInfo.read(folder), len(vectors)), folder)
        (new / ROWS).rename(only_rows / ROWS)
        storage.delete(target)
        storage.upload(new, target)
        storage.upload(only_rows, target)
    return num


def _same_options(info: SearchInfo, num: int) -> SearchOptions:
    """Give options with which the search of `num` vectors takes memory as before. None asks for a recall."""
    compression = float(info.compression.dimensions) if info.compression else None
    memory = None
    if info.scann and not info.scann.in_memory:  # less than what ScaNN would need to keep the vectors
        memory = int(num * (bytes_in_memory(info.dimensions) - 1))
    return SearchOptions(
        leaves_to_search=info.asked.leaves_to_search,
        reorder=info.asked.reorder,
        compression=compression,
        memory=memory,
    )


def delete_shard(storage: Storage, path: str) -> None:
    """Delete a shard. After a kill in the middle it is none any more."""
    storage.delete(f"{path}/{ROWS}")
    storage.delete(path)


def _image_ids(folder: Path) -> pa.ChunkedArray:
    with pa.memory_map(str(folder / ROWS)) as source:
        return pa.ipc.open_file(source).read_all()["image_id"]


def _copy_thumbnails(source: Path, target: Path, rows: pa.Table) -> pa.Table:
    """Copy the thumbnails of some rows one after the other, and give the rows with their new offsets."""
    lengths = rows["thumbnail_length"].to_numpy()
    with source.open("rb") as old, target.open("wb") as new:
        for offset, length in zip(rows["thumbnail_offset"].to_pylist(), lengths.tolist(), strict=True):
            old.seek(offset)
            new.write(old.read(length))
    offsets = np.concatenate([[0], np.cumsum(lengths[:-1])]) if len(lengths) else lengths
    field = rows.schema.field("thumbnail_offset")
    place = rows.schema.get_field_index("thumbnail_offset")
    return rows.set_column(place, field, pa.array(np.where(lengths > 0, offsets, 0)).cast(field.type))


@contextlib.contextmanager
def _local(storage: Storage, path: str, names: Collection[str] = ()) -> Iterator[Path]:
    """Give a folder of storage, or only some of its files, as a local folder."""
    if isinstance(storage.fs, LocalFileSystem):
        yield Path(storage.full(path))
        return
    with tempfile.TemporaryDirectory(prefix="aitax-shard-") as copy:
        for name in names or [file.path.removeprefix(f"{path}/") for file in storage.files(path)]:
            storage.fetch(f"{path}/{name}", (Path(copy) / name).parent)
        yield Path(copy)
