"""Photographs and their fates on storage, in pairs of files: nothing twice, nothing lost, whatever is killed.

Photographs become a file of `images/` and then their fates one of `ledger/`, whose rows name the file of images. The
ledger is what counts: a file of images that no ledger names does not exist, and is deleted when seen. Files of the
ledger are added and never changed, but for the one case of a photograph that is there twice (`drop_twins`).
"""

from collections.abc import Iterable
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from aitax_ray.fates import RETRIED
from aitax_ray.schemas import LEDGER as LEDGER_SCHEMA
from aitax_ray.schemas import MEDIA as MEDIA_SCHEMA
from aitax_ray.storage import Storage
from aitax_ray.workspace import IMAGES, LEDGER

TODO = f"{LEDGER}/.todo"
TODO_SCHEMA = pa.schema([MEDIA_SCHEMA.field(name) for name in ("image_id", "url", "gbif_id", "species_key")])
IMAGE_SIZE = b"image_size"  # in the metadata of a ledger file: the setting that its photographs were shrunk by
STORED_TWICE = "stored_twice"
REASONS = {STORED_TWICE: "two workers fetched the photograph, and the other's is kept"}
LATELY = timedelta(hours=1)  # longer than any batch takes


def write_shard(storage: Storage, name: str, photographs: pa.Table, fates: pa.Table, image_size: int) -> None:
    """Write photographs (schema IMAGES), then their fates (LEDGER, `shard` not yet known), each to a file `name`."""
    file = f"{name}.parquet" if photographs.num_rows else ""
    if file:
        storage.write_table(f"{IMAGES}/{file}", photographs, plain=["jpeg"])
    write_fates(storage, name, set_where(fates, pc.equal(fates["status"], "ok"), shard=file), image_size)


def write_fates(storage: Storage, name: str, fates: pa.Table, image_size: int) -> None:
    """Write a file of the ledger."""
    table = fates.cast(LEDGER_SCHEMA).replace_schema_metadata({IMAGE_SIZE: str(image_size)})
    storage.write_table(f"{LEDGER}/{name}.parquet", table)


def stored_image_size(storage: Storage) -> int | None:
    """The `image_size` of what is stored; None when nothing is."""
    paths = ledger_paths(storage)
    if not paths:
        return None
    with storage.fs.open_input_file(storage.full(paths[0])) as file:
        return int((pq.read_schema(file).metadata or {})[IMAGE_SIZE])


def ledger_paths(storage: Storage) -> list[str]:
    """The files of the ledger."""
    return [file.path for file in storage.files(LEDGER, ".parquet")]


def shard_names(storage: Storage) -> list[str]:
    """The files of photographs, by their names in the ledger."""
    return [file.path.rsplit("/", 1)[-1] for file in storage.files(IMAGES, ".parquet")]


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


def drop_leftovers(storage: Storage, named: Iterable[str]) -> None:
    """Delete the files of photographs that the ledger does not name, and files that were being written in a crash."""
    for name in set(shard_names(storage)) - set(named):
        storage.delete(f"{IMAGES}/{name}")
    for folder in (IMAGES, LEDGER):
        for path in storage.entries(folder):
            if path.rsplit("/", 1)[-1].startswith(".") and ".parquet." in path:
                storage.delete(path)
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


def drop_twins(storage: Storage, shard: str, image_ids: Iterable[str]) -> None:
    """Take photographs that are in another file as well out of this one, and say so in its ledger."""
    drop_photographs(storage, shard, image_ids)
    path = f"{LEDGER}/{shard}"  # a pair of files has one name
    fates = storage.read_table(path)
    twins = pc.and_(_is_in(fates["image_id"], image_ids), pc.equal(fates["status"], "ok"))
    size = int(fates.schema.metadata[IMAGE_SIZE])
    told = set_where(fates, twins, status=RETRIED, reason=STORED_TWICE, shard="")
    write_fates(storage, shard.removesuffix(".parquet"), told, size)


def set_where(table: pa.Table, rows: pa.ChunkedArray, **values: str) -> pa.Table:
    """Give columns of text another value in some rows."""
    for name, value in values.items():
        table = table.set_column(table.schema.get_field_index(name), name, pc.if_else(rows, value, table[name]))
    return table


def _is_in(column: pa.ChunkedArray, keys: Iterable[str]) -> pa.ChunkedArray:
    return pc.is_in(column, value_set=pa.array(keys, pa.string()))
