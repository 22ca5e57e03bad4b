"""What `index --add` took from other roots: evaluation and publishing read it together with what the root itself has.

    index/added/split.parquet         schemas.SPLIT of the added photographs; new species follow the trained ones
    index/added/media.parquet         schemas.MEDIA of these
    index/added/occurrences.parquet   schemas.OCCURRENCES of these
    index/added/taxa.parquet          schemas.TAXA of the new species, in the order of class_index
    index/views/<digest>/*.parquet    schemas.STORED_VIEWS: embeddings, also those of the val side of the root
    index/added/head.safetensors      weight (M, D) and bias (M,): the rows of the head for the new species

All is copied from the other roots, so they may be deleted when `index` is done.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aitax_ray import workspace
from aitax_ray.training.embeddings import first_view
from aitax_ray.workspace import ADDED, Workspace

if TYPE_CHECKING:
    from aitax_ray.training.model import Classifier, ClassifierInfo, Head

# The table of the root -> its rows of what was added.
TABLES = {
    workspace.SPLIT: f"{ADDED}/split.parquet",
    workspace.MEDIA: f"{ADDED}/media.parquet",
    workspace.OCCURRENCES: f"{ADDED}/occurrences.parquet",
    workspace.TAXA: f"{ADDED}/taxa.parquet",
}
KEYS = {workspace.MEDIA: "image_id", workspace.TAXA: "species_key"}
HEAD = f"{ADDED}/head.safetensors"
ROWS_PER_BATCH = 1 << 18


def read_joined_of(ws: Workspace, path: str, key: str, values: pa.Array, schema: pa.Schema) -> pa.Table:
    """Read the rows of `read_joined` whose column `key` has one of the values. The others are never all in memory."""
    own, more = (_read_of(ws, name, key, values, schema) for name in (path, TABLES[path]))
    return pa.concat_tables([_without(own, more, path), more])


def _read_of(ws: Workspace, path: str, key: str, values: pa.Array, schema: pa.Schema) -> pa.Table:
    files = [file.path for file in ws.storage.files(path, ".parquet")]
    if path.endswith(".parquet"):
        files = [path] if ws.storage.exists(path) else []
    found = [schema.empty_table()]
    for file in files:
        batches = ws.storage.read_batches(file, schema.names, ROWS_PER_BATCH, schema)
        found += [rows.filter(pc.is_in(rows[key], values)).cast(schema) for rows in batches]
    return pa.concat_tables(found)


def _without(own: pa.Table, more: pa.Table, path: str) -> pa.Table:
    """Leave out rows for what `more` has too: the root may list a species or a photograph that it does not use."""
    if path not in KEYS:
        return own
    return own.filter(pc.invert(pc.is_in(own[KEYS[path]], more[KEYS[path]].combine_chunks())))


def read_joined(
    ws: Workspace, path: str, columns: list[str] | None = None, schema: pa.Schema | None = None
) -> pa.Table:
    """Read a table of the root, see Storage.read_table, and behind its rows those of what was added."""
    own = ws.storage.read_table(path, columns, schema)
    if not ws.storage.exists(TABLES[path]):
        return own
    more = ws.storage.read_table(TABLES[path], columns, schema)
    return pa.concat_tables([_without(own, more, path), more.cast(own.schema)])


def read_added_classes(ws: Workspace) -> list[str]:
    """Read the species keys of the new species, in the order of class_index; [] without any."""
    if not ws.storage.exists(TABLES[workspace.TAXA]):
        return []
    keys: list[str] = ws.storage.read_table(TABLES[workspace.TAXA], ["species_key"])["species_key"].to_pylist()
    return keys


def read_views(ws: Workspace) -> Iterator[pa.Table]:
    """Yield the stored embeddings (schemas.STORED_VIEWS), file by file. They are of the trained model."""
    for file in ws.storage.files(workspace.ADDED_VIEWS, ".parquet"):
        yield ws.storage.read_table(file.path)


def read_embeddings(ws: Workspace) -> Iterator[pa.Table]:
    """Yield the stored embeddings as image_id and embedding (list of D numbers), file by file."""
    for rows in read_views(ws):
        yield pa.table({"image_id": rows["image_id"], "embedding": first_view(rows)})


def read_info(ws: Workspace) -> "ClassifierInfo":
    """Read the description of the trained weights, with the new species behind the trained ones."""
    from aitax_ray.training import predict

    info = predict.read_info(ws)
    return info.model_copy(update={"classes": [*info.classes, *read_added_classes(ws)]})


def read_classifier(ws: Workspace) -> "tuple[ClassifierInfo, Classifier]":
    """Read the trained classifier, whose head has rows for the new species too."""
    from aitax_ray.training import predict

    info, classifier = predict.read_classifier(ws)
    if ws.storage.exists(HEAD):
        _extend(ws, classifier.head)
    return info.model_copy(update={"classes": [*info.classes, *read_added_classes(ws)]}), classifier


def read_head(ws: Workspace) -> Callable[[np.ndarray], np.ndarray]:
    """Read the head, with rows for the new species: it maps embeddings (N, D) to logits (N, K + M), both float32."""
    from aitax_ray.training import predict

    head = predict.read_head(ws)
    if ws.storage.exists(HEAD):
        _extend(ws, head)
    return predict.applying(head)


def write_head(ws: Workspace, weight: np.ndarray, bias: np.ndarray) -> None:
    """Write the rows for the new species: weight (M, D), bias (M,)."""
    from safetensors.numpy import save

    tensors = {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
    ws.storage.write_bytes(HEAD, save(tensors))


def _extend(ws: Workspace, head: "Head") -> None:
    from safetensors.numpy import load

    from aitax_ray.training.model import add_rows

    rows = load(ws.storage.read_bytes(HEAD))
    add_rows(head, rows["weight"], rows["bias"])
