"""Reads the photographs that the evaluation asks about: embeddings, right classes, occurrences.

split/split.parquet      val and test
split/excluded.parquet   photographs of species that were held out
model/embeddings/        embeddings that training stored
index/added/             photographs that `index --add` took from other roots, with their embeddings

Other embeddings are computed on Ray Data.
"""

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aitax_ray import schemas, workspace
from aitax_ray.evaluation.questions import Photographs
from aitax_ray.index.added import read_added_classes, read_head, read_info, read_joined, read_views
from aitax_ray.progress import progress
from aitax_ray.training.embeddings import open_embeddings, views_of
from aitax_ray.training.inference import predictions
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    from aitax_ray.evaluation.settings import EvaluateSettings
    from aitax_ray.training.feed import Labels

HELD_OUT = "held_out"  # a side beside val and test
HELD_OUT_REASON = "held_out_species"  # in split/excluded.parquet


def read_rows(ws: Workspace) -> pa.Table:
    """Read the rows of schemas.SPLIT that are evaluated, sorted by image_id; those of species held out are added.

    Their split is HELD_OUT, and their class_index -1. A species that `index --add` knows is not held out any more.
    """
    split = read_joined(ws, workspace.SPLIT, schema=schemas.SPLIT)
    split = split.filter(pc.is_in(split["split"], pa.array(["val", "test"])))
    excluded = ws.storage.read_table(workspace.EXCLUDED, schema=schemas.EXCLUDED)
    is_known = pc.is_in(excluded["species_key"], pa.array(read_added_classes(ws), pa.string()))
    held_out = excluded.filter(pc.and_not(pc.equal(excluded["reason"], HELD_OUT_REASON), is_known))
    num = held_out.num_rows
    constant = {"class_index": -1, "split": HELD_OUT, "group": "", "trust": "", "weight": 1.0}
    columns = {
        name: pa.array([constant[name]] * num, schemas.SPLIT.field(name).type) if name in constant else held_out[name]
        for name in schemas.SPLIT.names
    }
    return pa.concat_tables([split, pa.table(columns, schemas.SPLIT)]).sort_by("image_id")


def read_photographs(ws: Workspace, settings: "EvaluateSettings", rows: pa.Table) -> Photographs:
    """Read the embeddings of the photographs in `rows` (see `read_rows`), and compute those that are missing."""
    from aitax_ray.training.feed import Labels

    labels = Labels(rows, ("val", "test", HELD_OUT))
    info = read_info(ws)
    unit = np.zeros((len(labels), info.embedding_size), np.float16)
    length, is_found = np.zeros(len(labels), np.float32), np.zeros(len(labels), bool)

    def keep(batch: pa.Table) -> int:
        place, found = labels.find(batch["image_id"])
        kept = batch.filter(pa.array(found))
        if kept.num_rows:
            unit[place] = views_of(kept)[:, 0]
            length[place] = np.stack(kept["length"].to_numpy())[:, 0]
            is_found[place] = True
        return int(kept.num_rows)

    with progress("evaluating", len(labels), "photographs") as advance:
        stored = open_embeddings(ws)  # of training with a frozen backbone
        for batch in chain(stored.batches() if stored else (), read_views(ws)):
            advance(keep(batch))
        missing = labels.where(~is_found)
        for batch in _embed(ws, settings, missing) if len(missing) else ():
            advance(keep(batch))
    # Own photographs may have the same number in the folders of two species: these are two occurrences.
    occurrences = zip(rows["gbif_id"].to_pylist(), rows["species_key"].to_pylist(), strict=True)
    _, occurrence = np.unique(np.array([f"{gbif_id}\0{key}" for gbif_id, key in occurrences], str), return_inverse=True)
    return Photographs(
        image_id=np.array([key.decode() for key in labels.image_ids]),
        occurrence=occurrence.astype(np.int64).reshape(-1),
        target=labels.class_index.astype(np.int64),
        unit=unit,
        length=length,
        head=read_head(ws),
        num_classes=len(info.classes),
    )


def _embed(ws: Workspace, settings: "EvaluateSettings", labels: "Labels") -> Any:
    from aitax_ray.training.predict import ViewEmbedder

    return predictions(ws, labels, settings, ViewEmbedder).iter_batches(batch_format="pyarrow", batch_size=None)
