"""The `index` stage: reads images/, split/ and model/, writes index/.

images/                    INPUT row:  image_id, jpeg        photographs of the train side of the split
index/embeddings/*.parquet OUTPUT row: image_id, embedding   computed on Ray Data, gathered to build ScaNN's index
index/rows.parquet         OUTPUT row: row, image_id, url, author, licence, ...   in the order of image_id
index/scann/               ScaNN's files: the embeddings in the order of rows.parquet
"""

import logging
import tempfile
from pathlib import Path
from typing import Any

from aitax_ray import schemas, workspace
from aitax_ray.errors import DataError
from aitax_ray.index.settings import IndexSettings
from aitax_ray.joins import look_up
from aitax_ray.progress import progress
from aitax_ray.training.inference import predictions
from aitax_ray.workspace import Outcome, StageReport, Workspace

log = logging.getLogger(__name__)


def index(settings: IndexSettings) -> StageReport:
    """Embed the training photographs and make them searchable.

    Writes index/embeddings/ (schemas.EMBEDDINGS), index/rows.parquet (schemas.INDEX_ROWS) and index/scann/.
    """
    ws = Workspace(settings.root)
    return ws.run("index", settings, ("manifest", "download", "split", "train"), lambda: _index(ws, settings))


def _index(ws: Workspace, settings: IndexSettings) -> Outcome:
    import pyarrow as pa

    from aitax_ray.index.searcher import MIN_FOR_TREE, build_index
    from aitax_ray.training.embeddings import open_embeddings
    from aitax_ray.training.feed import read_labels
    from aitax_ray.training.predict import Embedder, as_matrix

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
    embedded = pa.concat_tables(parts).cast(schemas.EMBEDDINGS).sort_by("image_id")
    ws.storage.write_table(f"{workspace.EMBEDDINGS}/part-00000.parquet", embedded)
    rows = _rows(ws, embedded["image_id"])
    ws.storage.write_table(workspace.INDEX_ROWS, rows)
    with tempfile.TemporaryDirectory() as folder:
        build_index(
            as_matrix(embedded["embedding"]),
            Path(folder),
            leaves_to_search=settings.leaves_to_search,
            reorder=settings.reorder,
        )
        ws.storage.delete(workspace.SCANN)
        ws.storage.upload(Path(folder), workspace.SCANN)
    log.info("the search is %s", "exact" if embedded.num_rows < MIN_FOR_TREE else "through ScaNN's tree")
    return Outcome(counts={"images": embedded.num_rows})


def _rows(ws: Workspace, image_ids: Any) -> Any:
    """The rows of schemas.INDEX_ROWS for the indexed photographs, in their order."""
    keys = image_ids.to_pylist()
    split = ws.storage.read_table(workspace.SPLIT, ["image_id", "class_index"])
    media = ws.storage.read_table(workspace.MEDIA, schema=schemas.MEDIA)
    rows = look_up(keys, media, "image_id", workspace.MEDIA).with_row_index("row")
    rows = rows.with_columns(look_up(keys, split, "image_id", workspace.SPLIT)["class_index"])
    return rows.select(schemas.INDEX_ROWS.names).to_arrow().cast(schemas.INDEX_ROWS)
