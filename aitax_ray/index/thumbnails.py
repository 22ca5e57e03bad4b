"""Thumbnails of indexed photographs: made once per photograph and size on Ray Data, then packed into the shards.

photographs()                           INPUT row:  image_id, jpeg, ...
index/thumbnails/webp-<size>/*.parquet  OUTPUT row: schemas.THUMBNAILS, written by the workers; of photographs of
                                        another root, see aitax_ray.index.add, in a folder with a longer name
index/shards/NNNNN/thumbnails.bin       the thumbnails of a shard one after the other
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from aitax_ray import schemas, workspace
from aitax_ray.index.embeddings import PhotographRows, StoredPhotographs, source_suffix
from aitax_ray.progress import progress
from aitax_ray.storage import Storage, StoredFile
from aitax_ray.thumbnails import shrink
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    from aitax_ray.training.feed import Labels

ROWS_PER_FILE = 512  # thumbnails that a worker makes again after a kill, at most; the JPEGs take about 50 MB
ROWS_PER_BATCH = 4096


def open_thumbnails(storage: Storage, size: int, suffix: str = "") -> PhotographRows:
    """Open the thumbnails of a size in px."""
    return PhotographRows(storage, f"{workspace.THUMBNAILS}/webp-{size}{suffix}", schemas.THUMBNAILS)


def make_thumbnails(ws: Workspace, labels: "Labels", size: int, source: Workspace | None = None) -> None:
    """Make the thumbnails of the labelled photographs that have none yet, or whose JPEG has changed.

    The photographs are stored in `ws`, or in `source`.
    """
    from aitax_ray.cluster import connect
    from aitax_ray.training.feed import photographs

    thumbnails = open_thumbnails(ws.storage, size, source_suffix(source) if source else "")
    source = source or ws
    stored = StoredPhotographs(source.storage)
    has_thumbnail = thumbnails.clean(stored)
    missing = labels.where(~np.isin(labels.image_ids, stored.image_ids[has_thumbnail]))
    if not len(missing):
        return
    connect()
    with progress("thumbnails", len(labels), "photographs") as advance:
        advance(len(labels) - len(missing))
        written = photographs(source, missing).map_batches(
            partial(write_thumbnails, thumbnails=thumbnails, size=size),
            batch_format="pyarrow",
            batch_size=ROWS_PER_FILE,
        )
        batches: Any = written.iter_batches(batch_format="pyarrow", batch_size=None)
        for batch in batches:
            advance(sum(batch["num_rows"].to_pylist()))


def write_thumbnails(batch: pa.Table, thumbnails: PhotographRows, size: int) -> pa.Table:
    """Make the thumbnails of rows of image_id and jpeg, and write them as one file. Returns their number."""
    jpegs = batch["jpeg"].to_pylist()
    columns = {
        "image_id": batch["image_id"],
        "thumbnail": pa.array([shrink(jpeg, size, "WebP") for jpeg in jpegs], pa.binary()),
        "jpeg_sha256": pa.array([hashlib.sha256(jpeg).hexdigest() for jpeg in jpegs], pa.string()),
    }
    if jpegs:
        thumbnails.add(pa.table(columns))
    return pa.table({"num_rows": pa.array([len(jpegs)], pa.int64())})


def list_files(storage: Storage, size: int) -> list[StoredFile]:
    """List the files with thumbnails of a size in px, of the root itself and of others."""
    own = open_thumbnails(storage, size).folder
    folders = [path for path in storage.entries(workspace.THUMBNAILS) if path == own or path.startswith(f"{own}-")]
    return [file for folder in folders for file in storage.files(folder, ".parquet")]


def pack_thumbnails(
    storage: Storage, size: int, image_ids: np.ndarray, is_shown: Sequence[bool], target: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Write the thumbnails of those photographs that are shown, S40 (N,), one after the other into a local file.

    Returns for each photograph where its thumbnail begins, int64 (N,), and its length in bytes, int32 (N,): 0 if it has
    none.
    """
    order = np.argsort(image_ids)
    in_order = image_ids[order]
    offset, length = np.zeros(len(image_ids), np.int64), np.zeros(len(image_ids), np.int32)
    end = 0
    with target.open("wb") as file:
        for part in list_files(storage, size):
            for batch in storage.read_batches(part.path, ["image_id", "thumbnail"], ROWS_PER_BATCH):
                keys = np.array(batch["image_id"].to_pylist(), dtype="S40")
                place = np.minimum(np.searchsorted(in_order, keys), len(in_order) - 1)
                for number in np.flatnonzero(in_order[place] == keys).tolist():
                    row = order[place[number]]
                    content = batch["thumbnail"][number].as_py()
                    if is_shown[row] and not length[row] and content:
                        file.write(content)
                        offset[row], length[row] = end, len(content)
                        end += len(content)
    return offset, length
