"""The `index` stage: reads images/, split/ and model/, writes index/.

images/                             INPUT row:  image_id, jpeg
index/embeddings/<digest>/*.parquet OUTPUT row: schemas.EMBEDDINGS, see aitax_ray.index.embed
index/shards/                       a folder per share of the photographs, see aitax_ray.index.shards
"""

from aitax_ray import workspace
from aitax_ray.errors import DataError
from aitax_ray.index.assemble import divide, find_hidden
from aitax_ray.index.embed import embed
from aitax_ray.index.settings import IndexSettings
from aitax_ray.index.thumbnails import make_thumbnails
from aitax_ray.workspace import Outcome, StageReport, Workspace

SIDES = {"train": ("train",), "all": ("train", "val", "test")}


def index(settings: IndexSettings) -> StageReport:
    """Embed the photographs and make them searchable.

    Writes index/embeddings/ (schemas.EMBEDDINGS) and index/shards/ (see aitax_ray.index.shards).
    """
    ws = Workspace(settings.root)
    reads = ("manifest", "download", "split", "train")
    kept = (workspace.EMBEDDINGS, workspace.THUMBNAILS)
    return ws.run("index", settings, reads, lambda: _index(ws, settings), kept_folders=kept)


def _index(ws: Workspace, settings: IndexSettings) -> Outcome:
    from aitax_ray.index.distributed import write_shares
    from aitax_ray.training.feed import read_labels

    labels = read_labels(ws, *SIDES[settings.sides])
    if not len(labels):
        raise DataError("no photograph is in the train split, so there is nothing to index: run `aitax split` again")
    embeddings = embed(ws, settings, labels)
    if settings.thumbnails:
        make_thumbnails(ws, labels.without(find_hidden(ws, settings.shown_license)), settings.thumbnail_size)
    ws.storage.delete(workspace.SHARDS)
    shares = divide(labels, settings.photographs_per_shard)
    write_shares(ws, settings, embeddings.batches, shares)
    return Outcome(counts={"images": len(labels), "shards": len(shares)})
