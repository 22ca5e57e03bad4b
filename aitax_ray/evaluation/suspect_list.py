"""The list of photographs with a doubtful label, for a curator: evaluation/suspects.csv."""

import io
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from aitax_ray import schemas, workspace
from aitax_ray.evaluation.suspects import find_suspects
from aitax_ray.index.added import read_joined
from aitax_ray.index.shards import open_index, read_rows
from aitax_ray.joins import join_rows
from aitax_ray.text import DISARMED, FORMULA
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

COLUMNS = (
    "image_id", "labelled", "looks_like", "confidence", "label_score", "occurrence", "url", "creator", "license",
)  # fmt: skip
MAX_JUDGED = 300_000  # training photographs whose labels are judged; their embeddings are held in memory

NUMBERS = ("confidence", "label_score")

log = logging.getLogger(__name__)


def as_csv(suspects: "pl.DataFrame") -> bytes:
    """Write the list as CSV (UTF-8, RFC 4180). No text is a formula to a spreadsheet."""
    import polars as pl

    sink = io.BytesIO()
    suspects.with_columns(pl.col(pl.String).str.replace_all(FORMULA, DISARMED)).write_csv(sink)
    return sink.getvalue()


def list_suspects(ws: Workspace, num_classes: int) -> "pl.DataFrame":
    """Find training photographs with a doubtful label, the most doubtful first: COLUMNS.

    The embeddings are those of the index. Of many photographs the first MAX_JUDGED are judged, by image_id: a hash.
    """
    import polars as pl

    rows: Any = pl.from_arrow(read_rows(ws.storage))
    trained = rows.filter(split="train")
    rows = trained.sort("image_id").head(MAX_JUDGED)
    if len(trained) > len(rows):
        log.warning("the labels of %s training photographs are judged, not those of the others", f"{len(rows):,}")
    split: Any = pl.from_arrow(read_joined(ws, workspace.SPLIT, ["image_id", "group"]))
    rows = join_rows(rows, split, "image_id", workspace.SPLIT)
    unit = _read_vectors(ws, np.array(rows["image_id"].to_list()))
    group = rows["group"].rank("dense").to_numpy().astype(np.int64) - 1
    found = find_suspects(unit, rows["class_index"].to_numpy().astype(np.int64), group, num_classes)
    taxa: Any = pl.from_arrow(read_joined(ws, workspace.TAXA, ["species_key", "name"], schemas.TAXA))
    names = dict(taxa.iter_rows())
    key_of = dict(rows.select("class_index", "species_key").iter_rows())
    listed = [
        {
            "labelled": names.get(row["species_key"], row["species_key"]),
            "looks_like": names.get(key_of[suspect.looks_like], key_of[suspect.looks_like]),
            "confidence": round(suspect.confidence, 4),
            "label_score": round(suspect.label_score, 4),
            "occurrence": schemas.OCCURRENCE_PAGE + row["gbif_id"] if row["is_at_gbif"] else "",
            **{name: row[name] for name in ("url", "image_id", "creator", "license")},
        }
        for suspect, row in ((suspect, rows.row(suspect.place, named=True)) for suspect in found)
    ]
    return pl.DataFrame(listed, {name: pl.Float64 if name in NUMBERS else pl.String for name in COLUMNS})


def _read_vectors(ws: Workspace, image_ids: np.ndarray) -> np.ndarray:
    """The indexed embeddings of some photographs, in this order: float16 (N, D)."""
    with open_index(ws.storage) as index:
        unit = np.zeros((len(image_ids), index.shards[0].vectors.shape[1]), np.float16)
        for shard in index.shards:
            place = {key: number for number, key in enumerate(shard.rows["image_id"].to_pylist())}
            found = np.array([place.get(key, -1) for key in image_ids])
            unit[found >= 0] = shard.vectors[found[found >= 0]]
    return unit
