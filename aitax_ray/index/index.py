"""The `index` stage: reads images/, split/ and model/, writes index/.

images/                    INPUT row:  image_id, jpeg        photographs of the train side of the split
index/embeddings/*.parquet OUTPUT row: image_id, embedding
index/shards/              a folder per share of the photographs, see aitax_ray.index.shards
"""

import uuid
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from aitax_ray import schemas, workspace
from aitax_ray.errors import DataError
from aitax_ray.index.assemble import divide, find_hidden
from aitax_ray.index.settings import IndexSettings
from aitax_ray.index.thumbnails import make_thumbnails
from aitax_ray.progress import progress
from aitax_ray.training.inference import predictions
from aitax_ray.workspace import Outcome, StageReport, Workspace

if TYPE_CHECKING:
    import pyarrow as pa


def index(settings: IndexSettings) -> StageReport:
    """Embed the training photographs and make them searchable.

    Writes index/embeddings/ (schemas.EMBEDDINGS) and index/shards/ (see aitax_ray.index.shards).
    """
    ws = Workspace(settings.root)
    return ws.run("index", settings, ("manifest", "download", "split", "train"), lambda: _index(ws, settings))


def _index(ws: Workspace, settings: IndexSettings) -> Outcome:
    from aitax_ray.index.distributed import write_shares
    from aitax_ray.training.embeddings import open_embeddings
    from aitax_ray.training.feed import read_labels
    from aitax_ray.training.predict import Embedder

    labels = read_labels(ws, "train")
    if not len(labels):
        raise DataError("no photograph is in the train split, so there is nothing to index: run `aitax split` again")
    stored = open_embeddings(ws)  # of training with a frozen backbone
    known = stored.served_views() if stored else schemas.EMBEDDINGS.empty_table()
    parts = [labels(known).select(schemas.EMBEDDINGS.names)]
    missing = labels.without(known["image_id"].to_pylist())
    with progress("indexing", len(labels), "photographs") as advance:
        advance(len(labels) - len(missing))
        if len(missing):
            dataset = predictions(ws, missing, settings, Embedder)
            for batch in dataset.iter_batches(batch_format="pyarrow", batch_size=None):
                parts.append(batch)
                advance(len(batch))
    ws.storage.delete(workspace.EMBEDDINGS)
    for part in parts:
        table = part.cast(schemas.EMBEDDINGS)
        ws.storage.write_table(f"{workspace.EMBEDDINGS}/part-{uuid.uuid4().hex}.parquet", table)
    if settings.thumbnails:
        make_thumbnails(ws, labels.without(find_hidden(ws, settings.shown_license)), settings.thumbnail_size)
    ws.storage.delete(workspace.SHARDS)
    shares = divide(labels, settings.photographs_per_shard)
    write_shares(ws, settings, partial(_read_embeddings, ws), shares)
    return Outcome(counts={"images": len(labels), "shards": len(shares)})


def _read_embeddings(ws: Workspace) -> Iterator["pa.Table"]:
    for file in ws.storage.files(workspace.EMBEDDINGS, ".parquet"):
        yield ws.storage.read_table(file.path)
