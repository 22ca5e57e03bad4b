"""Photographs and their fates on storage, in pairs of files: nothing twice, nothing lost, whatever is killed.

A worker writes photographs to a file of `images/`, and then their fates to one of `ledger/`, whose rows name the file
of images. Files of the ledger are added and never changed. Photographs in a file that no row names come from a killed
run; the next run enters them in the ledger (`reconcile`).
"""

import contextlib
import logging
from collections.abc import Iterable, Mapping
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from aitax_ray.schemas import LEDGER as LEDGER_SCHEMA
from aitax_ray.schemas import MEDIA as MEDIA_SCHEMA
from aitax_ray.storage import Storage
from aitax_ray.workspace import IMAGES, LEDGER

log = logging.getLogger(__name__)

TODO = f"{LEDGER}/.todo"
TODO_SCHEMA = pa.schema([MEDIA_SCHEMA.field(name) for name in ("image_id", "url", "gbif_id", "species_key")])
IMAGE_SIZE = b"image_size"  # in the metadata of a ledger file: the setting that its photographs were shrunk by
FILE_MISSING = "file_missing"
REASONS = {FILE_MISSING: "it was stored, and its file in `images/` is no longer there, or damaged"}
# One is longer than any batch takes; two more, because on some storages a file has the time of the node that wrote it.
LATELY = timedelta(hours=3)


def write_shard(storage: Storage, name: str, photographs: pa.Table, fates: pa.Table, image_size: int) -> None:
    """Write photographs (schema IMAGES), then their fates (LEDGER, `shard` not yet known), each to a file `name`."""
    file = f"{name}.parquet" if photographs.num_rows else ""
    if file:
        write_photographs(storage, file, photographs, image_size)
    write_fates(storage, name, set_where(fates, pc.equal(fates["status"], "ok"), shard=file), image_size)


def write_photographs(storage: Storage, file: str, photographs: pa.Table, image_size: int) -> None:
    """Write a file of photographs."""
    table = photographs.replace_schema_metadata({IMAGE_SIZE: str(image_size)})
    storage.write_table(f"{IMAGES}/{file}", table, plain=["jpeg"])


def write_fates(
    storage: Storage, name: str, fates: pa.Table, image_size: int, metadata: Mapping[bytes, bytes] | None = None
) -> None:
    """Write a file of the ledger."""
    known = {IMAGE_SIZE: str(image_size).encode(), **(metadata or {})}
    storage.write_table(f"{LEDGER}/{name}.parquet", fates.cast(LEDGER_SCHEMA).replace_schema_metadata(known))


def stored_image_size(storage: Storage) -> int | None:
    """The `image_size` of what is stored; None when nothing is, or when no file tells."""
    for path in [*ledger_paths(storage), *(f"{IMAGES}/{name}" for name in shard_names(storage))]:
        with contextlib.suppress(OSError, pa.ArrowException), storage.fs.open_input_file(storage.full(path)) as file:
            size = (pq.read_schema(file).metadata or {}).get(IMAGE_SIZE)
            if size is not None:
                return int(size)
    return None


def ledger_paths(storage: Storage) -> list[str]:
    """The files of the ledger."""
    return [file.path for file in storage.files(LEDGER, ".parquet")]


def shard_names(storage: Storage, prefix: str = "") -> list[str]:
    """The files of photographs, by their names in the ledger."""
    names = (file.path.rsplit("/", 1)[-1] for file in storage.files(IMAGES, ".parquet"))
    return [name for name in names if name.startswith(prefix)]


def stored_lately(storage: Storage, run: str) -> frozenset[str]:
    """The photographs that got their fate in this run, and not long ago: what a worker that was lost may have done."""
    folder = storage.full(LEDGER)
    infos = storage.fs.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
    infos = [info for info in infos if info.base_name.startswith(run) and info.base_name.endswith(".parquet")]
    if not infos:
        return frozenset()
    if all(info.mtime for info in infos):  # some storages do not tell
        since = max(info.mtime for info in infos) - LATELY
        infos = [info for info in infos if info.mtime >= since]
    paths = [f"{LEDGER}/{info.base_name}" for info in infos]
    return frozenset(key for path in paths for key in storage.read_table(path, ["image_id"])["image_id"].to_pylist())


def delete_unfinished_files(storage: Storage) -> None:
    """Delete the list of what was left to do, and files that a killed run had begun to write."""
    unfinished = [
        path
        for folder in (IMAGES, LEDGER)
        for path in storage.entries(folder)
        if path.rsplit("/", 1)[-1].startswith(".") and ".parquet." in path
    ]
    for path in unfinished:
        storage.delete(path)
    if unfinished:
        log.info("deleted %d files that an earlier run had not finished writing", len(unfinished))
    storage.delete(TODO)


def drop_photographs(storage: Storage, shard: str, image_ids: Iterable[str]) -> None:
    """Rewrite a file of photographs without some of them; delete it when none is left."""
    path = f"{IMAGES}/{shard}"
    if not storage.exists(path):
        return
    photographs = storage.read_table(path)
    rest = photographs.filter(pc.invert(_is_in(photographs["image_id"], image_ids)))
    if rest.num_rows:
        storage.write_table(path, rest, plain=["jpeg"])
    else:
        storage.delete(path)


def set_where(table: pa.Table, rows: pa.ChunkedArray, **values: str) -> pa.Table:
    """Give columns of text another value in some rows."""
    for name, value in values.items():
        table = table.set_column(table.schema.get_field_index(name), name, pc.if_else(rows, value, table[name]))
    return table


def _is_in(column: pa.ChunkedArray, keys: Iterable[str]) -> pa.ChunkedArray:
    return pc.is_in(column, value_set=pa.array(keys, pa.string()))
