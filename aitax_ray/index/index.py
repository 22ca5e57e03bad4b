"""The `index` stage: reads images/, split/ and model/, writes index/.

images/                             INPUT row:  image_id, jpeg
index/embeddings/<digest>/*.parquet OUTPUT row: schemas.EMBEDDINGS, see aitax_ray.index.embed
index/shards/                       a folder per share of the photographs, see aitax_ray.index.shards
"""

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from aitax_ray import schemas, workspace
from aitax_ray.errors import DataError
from aitax_ray.index.add import add_roots, delete_unused
from aitax_ray.index.added import read_embeddings, read_joined
from aitax_ray.index.assemble import divide, find_hidden
from aitax_ray.index.embed import embed
from aitax_ray.index.other_roots import check_roots
from aitax_ray.index.settings import SIDES, IndexSettings
from aitax_ray.index.thumbnails import make_thumbnails
from aitax_ray.workspace import Outcome, StageReport, Workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from aitax_ray.index.embeddings import Embeddings


def index(settings: IndexSettings) -> StageReport:
    """Embed the photographs and make them searchable.

    Writes index/embeddings/ (schemas.EMBEDDINGS) and index/shards/ (see aitax_ray.index.shards).
    """
    ws = Workspace(settings.root)
    reads = ("manifest", "download", "split", "train")
    check_roots(ws, settings.add)
    # Of an earlier index, what is still right is used again.
    kept = (workspace.EMBEDDINGS, workspace.THUMBNAILS, workspace.ADDED_VIEWS, workspace.SHARDS)
    return ws.run("index", settings, reads, lambda: _index(ws, settings), kept_folders=kept)


def _index(ws: Workspace, settings: IndexSettings) -> Outcome:
    from aitax_ray.index.distributed import write_shares
    from aitax_ray.index.search_info import SEARCH, SearchInfo, summarise
    from aitax_ray.index.shards import shard_folders
    from aitax_ray.training.feed import Labels, read_labels

    labels = read_labels(ws, *SIDES[settings.sides])
    if not len(labels):
        raise DataError("no photograph is in the train split, so there is nothing to index: run `aitax split` again")
    embeddings = embed(ws, settings, labels)
    if settings.thumbnails:
        make_thumbnails(ws, labels.without(find_hidden(ws, settings.shown_license)), settings.thumbnail_size)
    added = Outcome()
    delete_unused(ws, settings.add)
    if settings.add:
        added = add_roots(ws, settings, embeddings.batches())
        labels = Labels(read_joined(ws, workspace.SPLIT, schema=schemas.SPLIT), SIDES[settings.sides])
    shares = divide(labels, settings.photographs_per_shard)
    write_shares(ws, settings, partial(_read_embeddings, ws, embeddings), shares)
    folders = shard_folders(ws.storage, workspace.SHARDS)
    for path in folders[len(shares) :]:
        ws.storage.delete(path)
    infos = [SearchInfo.parse(ws.storage.read_bytes(f"{path}/{SEARCH}"), path) for path in folders[: len(shares)]]
    counts = {"images": len(labels), "shards": len(shares), **added.counts}
    return added.model_copy(update={"counts": counts, "metrics": {**added.metrics, **summarise(infos)}})


def _read_embeddings(ws: Workspace, own: "Embeddings") -> Iterator["pa.Table"]:
    return chain(own.batches(), read_embeddings(ws))
