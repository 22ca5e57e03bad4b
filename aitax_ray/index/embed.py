"""Computes the embeddings of an index on Ray Data. Its workers write them to files; the driver only counts.

images/                                INPUT row:  image_id, jpeg
index/embeddings/<digest>/*.parquet    OUTPUT row: schemas.EMBEDDINGS

The digest is computed from the weights of the backbone, the transform and the number of views. So embeddings of two
models are never mixed, and each photograph is embedded once per model: a run that was killed continues, and later runs
compute what is missing. Embeddings that training with a frozen backbone stored are copied.
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from aitax_ray import workspace
from aitax_ray.index.embeddings import Embeddings, StoredPhotographs
from aitax_ray.progress import progress
from aitax_ray.training.inference import predictions
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    from aitax_ray.index.settings import IndexSettings
    from aitax_ray.training.feed import Labels

NUM_FILES = 100  # files that a run writes, about
# Rows of a file. After a kill, at most as many rows are computed again, and those that were on their way.
MIN_ROWS, MAX_ROWS = 256, 8192


def embed(ws: Workspace, settings: "IndexSettings", labels: "Labels") -> Embeddings:
    """Compute the embeddings of the labelled photographs that have none yet.

    The driver holds the keys of the photographs, but no embeddings. Embeddings of other models are deleted. Raises
    DataError unless each photograph is stored exactly once.
    """
    embeddings = Embeddings(ws.storage, f"{workspace.EMBEDDINGS}/{_digest(ws, settings)}")
    for other in ws.storage.entries(workspace.EMBEDDINGS):
        if other != embeddings.folder:
            ws.storage.delete(other)
    photographs = StoredPhotographs(ws.storage)
    has_embedding = embeddings.clean(photographs)
    with progress("embeddings", len(labels), "photographs") as advance:
        if settings.views == 1:
            _copy_from_training(ws, embeddings, photographs, has_embedding, labels)
        missing = labels.where(~np.isin(labels.image_ids, photographs.image_ids[has_embedding]))
        advance(len(labels) - len(missing))
        if len(missing):
            for num in _compute(ws, settings, embeddings, missing):
                advance(num)
            embeddings.clean(photographs)  # Ray repeats a task whose worker was lost, and so may write rows twice
    return embeddings


def _copy_from_training(
    ws: Workspace,
    embeddings: Embeddings,
    photographs: StoredPhotographs,
    has_embedding: np.ndarray,
    labels: "Labels",
) -> None:
    """Copy the embeddings that training stored, file by file, and mark them in `has_embedding`."""
    from aitax_ray.training.embeddings import first_view, open_embeddings

    is_needed = np.isin(photographs.image_ids, labels.image_ids) & ~has_embedding
    stored = open_embeddings(ws)
    for rows in stored.batches() if stored and is_needed.any() else ():
        place, is_taken = photographs.find_unchanged(rows)
        is_taken[is_taken] = is_needed[place[is_taken]]
        if not is_taken.any():
            continue
        place, rows = place[is_taken], rows.filter(pa.array(is_taken))
        is_needed[place], has_embedding[place] = False, True
        columns = {"image_id": rows["image_id"], "embedding": first_view(rows), "jpeg_sha256": rows["jpeg_sha256"]}
        embeddings.add(pa.table(columns))


def _compute(ws: Workspace, settings: "IndexSettings", embeddings: Embeddings, missing: "Labels") -> Iterator[int]:
    """Compute and write the embeddings of these photographs. Yields the number of rows of each file."""
    from aitax_ray.training.predict import Embedder, read_info
    from aitax_ray.training.views import decode_averaged_views

    decode = partial(decode_averaged_views, transform=read_info(ws).transform, views=settings.views)
    rows_per_file = min(max(len(missing) // NUM_FILES, MIN_ROWS), MAX_ROWS)
    counts: Any = (
        predictions(ws, missing, settings, Embedder, decode)
        .repartition(target_num_rows_per_block=rows_per_file, strict=True)
        .map_batches(partial(_write, embeddings), batch_format="pyarrow", batch_size=None)
    )
    for batch in counts.iter_batches(batch_format="pyarrow", batch_size=None):
        yield from batch["num_rows"].to_pylist()


def _write(embeddings: Embeddings, rows: pa.Table) -> pa.Table:
    embeddings.add(rows)
    return pa.table({"num_rows": [rows.num_rows]})


def _digest(ws: Workspace, settings: "IndexSettings") -> str:
    from aitax_ray.training.predict import digest_backbone

    return hashlib.sha256(f"{digest_backbone(ws)} {settings.views}".encode()).hexdigest()[:16]
