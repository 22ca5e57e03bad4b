"""Photographs and their fates on storage: what is done, what is left to do, and nothing twice.

A batch of photographs becomes a file of `images/` and then one of `ledger/`, whose rows name the file of images. The
ledger is what counts: a file of images that no ledger names does not exist, and is deleted when seen. So each change is
made by writing a new file of images and then replacing one file of the ledger, and a crash at any moment leaves either
the old or the new.
"""

import hashlib
import logging
from collections.abc import Iterable

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from aitax_ray.schemas import IMAGES as IMAGES_SCHEMA
from aitax_ray.schemas import LEDGER as LEDGER_SCHEMA
from aitax_ray.schemas import MEDIA as MEDIA_SCHEMA
from aitax_ray.storage import Storage
from aitax_ray.workspace import IMAGES, LEDGER, MEDIA, Outcome

log = logging.getLogger(__name__)

TODO = f"{LEDGER}/.todo"
TODO_SCHEMA = pa.schema([MEDIA_SCHEMA.field(name) for name in ("image_id", "url", "gbif_id", "species_key")])
LABELS = ["gbif_id", "species_key"]  # what the manifest may say anew of a URL
IMAGE_SIZE = b"image_size"  # in the metadata of a ledger file: the setting that its photographs were shrunk by


def ledger_path(image_ids: Iterable[str]) -> str:
    """Where the fates of a batch go: named after its photographs, so that a batch done again replaces itself."""
    return f"{LEDGER}/{_name(image_ids)}.parquet"


def write_shard(storage: Storage, path: str, photographs: pa.Table, fates: pa.Table, image_size: int) -> None:
    """Write photographs (schema IMAGES), then their fates (LEDGER, `shard` not yet known) to the ledger file `path`."""
    name = f"{_name(photographs['image_id'].to_pylist())}.parquet" if photographs.num_rows else ""
    if name:
        storage.write_table(f"{IMAGES}/{name}", photographs)
    shard = pc.if_else(pc.equal(fates["status"], "ok"), name, "")
    fates = fates.set_column(LEDGER_SCHEMA.get_field_index("shard"), "shard", shard).cast(LEDGER_SCHEMA)
    storage.write_table(path, fates.replace_schema_metadata({IMAGE_SIZE: str(image_size)}))


def stored_image_size(storage: Storage) -> int | None:
    """The `image_size` of what is stored; None when nothing is."""
    paths = _ledger_paths(storage)
    if not paths:
        return None
    with storage.fs.open_input_file(storage.full(paths[0])) as file:
        return int((pq.read_schema(file).metadata or {})[IMAGE_SIZE])


def settle(storage: Storage, forget: frozenset[str] = frozenset()) -> None:
    """Bring ledger, images and manifest into agreement, whatever an earlier run left and however the manifest changed.

    Forgets the fates of URLs that the manifest no longer has, of those that failed for a reason in `forget`, and of
    those that are there twice; deletes the photographs that no fate refers to; gives those that stay the species and
    the occurrence that the manifest says now.
    """
    storage.delete(TODO)
    ledger = _ledger(storage, ["image_id", "status", "reason"])
    labels = pl.DataFrame(storage.read_table(MEDIA, ["image_id", *LABELS], MEDIA_SCHEMA))
    keep = pl.col("image_id").is_in(labels["image_id"].implode()) & pl.col("image_id").is_first_distinct()
    stale = ledger.sort("status", descending=True).filter(~keep | pl.col("reason").is_in(list(forget)))
    if stale.height:
        log.info(
            "forgetting %s fates of URLs that are gone from the manifest or to be tried again", f"{stale.height:,}"
        )
    for (path,), rows in stale.group_by("file"):
        _forget(storage, str(path), rows["image_id"].to_list())
    shards = set(_ledger(storage, ["shard"])["shard"].unique())
    for file in storage.files(IMAGES, ".parquet"):
        if file.path.rsplit("/", 1)[-1] not in shards:
            storage.delete(file.path)
    _relabel(storage, labels)


def write_todo(storage: Storage) -> int:
    """Write the manifest's rows without a fate below TODO, a file for each of the manifest's; returns their number."""
    done, total = _ledger(storage, ["image_id"])["image_id"].to_arrow().cast(pa.string()), 0
    for file in storage.files(MEDIA, ".parquet"):
        rows = storage.read_table(file.path, TODO_SCHEMA.names).cast(TODO_SCHEMA)
        rows = rows.filter(pc.invert(pc.is_in(rows["image_id"], value_set=done)))
        if rows.num_rows:
            storage.write_table(f"{TODO}/{file.path.rsplit('/', 1)[-1]}", rows)
        total += rows.num_rows
    return total


def count(storage: Storage) -> Outcome:
    """Count the ledger's fates."""
    ledger = _ledger(storage, ["status", "reason", "num_bytes"])
    ok = ledger.filter(pl.col("status") == "ok")
    reasons = ledger.filter(pl.col("status") != "ok")["reason"].value_counts(sort=True)
    return Outcome(
        counts={
            "urls": ledger.height,
            "ok": ok.height,
            "failed": ledger.height - ok.height,
            "bytes": int(ok["num_bytes"].sum()),
        },
        reasons=dict(reasons.iter_rows()),
    )


def _name(image_ids: Iterable[str]) -> str:
    return hashlib.sha1("\n".join(image_ids).encode(), usedforsecurity=False).hexdigest()


def _ledger_paths(storage: Storage) -> list[str]:
    # A run that was killed left its TODO.
    return [file.path for file in storage.files(LEDGER, ".parquet") if not file.path.startswith(f"{TODO}/")]


def _ledger(storage: Storage, columns: list[str]) -> pl.DataFrame:
    """Columns of the whole ledger, and `file`, the path that each row stands in."""
    return _scan(storage, _ledger_paths(storage), LEDGER_SCHEMA, columns)


def _scan(storage: Storage, paths: list[str], schema: pa.Schema, columns: list[str]) -> pl.DataFrame:
    if not paths:
        return pl.DataFrame(schema.empty_table().select(columns)).with_columns(file=pl.lit("", pl.String))
    full = {storage.full(path): path for path in paths}
    dataset = ds.dataset(list(full), schema=schema, format="parquet", filesystem=storage.fs)
    table = pl.DataFrame(dataset.to_table(columns=[*columns, "__filename"]))
    return table.with_columns(pl.col("__filename").replace_strict(full).alias("file")).drop("__filename")


def _forget(storage: Storage, path: str, image_ids: list[str]) -> None:
    """Rewrite a file of the ledger without some of its rows, and its photographs when some of them go."""
    fates = storage.read_table(path)
    rest = fates.filter(pc.invert(pc.is_in(fates["image_id"], value_set=pa.array(image_ids, pa.string()))))
    if rest.num_rows == 0:
        storage.delete(path)
        return
    stored = rest.filter(pc.equal(rest["status"], "ok"))
    photographs = IMAGES_SCHEMA.empty_table()
    if stored.num_rows:
        photographs = storage.read_table(f"{IMAGES}/{stored['shard'][0].as_py()}")
        photographs = photographs.filter(
            pc.is_in(photographs["image_id"], value_set=stored["image_id"].combine_chunks())
        )
    write_shard(storage, path, photographs, rest, int(fates.schema.metadata[IMAGE_SIZE]))


def _relabel(storage: Storage, labels: pl.DataFrame) -> None:
    """Rewrite the files of images with photographs of which the manifest says something else now."""
    paths = [file.path for file in storage.files(IMAGES, ".parquet")]
    stored = _scan(storage, paths, IMAGES_SCHEMA, ["image_id", *LABELS]).join(labels, on="image_id", suffix="_now")
    changed = stored.filter(pl.any_horizontal(pl.col(name) != pl.col(f"{name}_now") for name in LABELS))
    for path in changed["file"].unique():
        photographs = storage.read_table(path)
        now = pl.DataFrame(photographs.select(["image_id"])).join(
            labels, on="image_id", how="left", maintain_order="left"
        )
        for name in LABELS:
            photographs = photographs.set_column(IMAGES_SCHEMA.get_field_index(name), name, now[name].to_arrow())
        storage.write_table(path, photographs.cast(IMAGES_SCHEMA))
