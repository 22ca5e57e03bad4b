"""Embeddings of photographs by a frozen backbone, computed once and stored under model/embeddings/.

photographs()                          INPUT row:  image_id, jpeg, ...
model/embeddings/<digest>/*.parquet    OUTPUT row: schemas.STORED_VIEWS, one row per photograph

The digest is computed from the weights, the transform, the seed and the number of views. So an interrupted run
continues, the training of another head uses the same embeddings, and `index` takes the embeddings that it needs.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from aitax_ray import schemas, workspace
from aitax_ray.cluster import check_room, count_resources, use_gpus
from aitax_ray.progress import progress
from aitax_ray.training.onnx_classifier import OnnxClassifier
from aitax_ray.training.views import decode_views
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    from aitax_ray.training.feed import Labels
    from aitax_ray.training.model import Classifier, ClassifierInfo
    from aitax_ray.training.settings import TrainSettings

ROWS_PER_FILE = 4096  # rows that are computed again after a kill, at most
PHOTOGRAPHS_PER_BATCH = 32


@dataclass(frozen=True)
class StoredEmbeddings:
    """The embeddings of one backbone in a workspace."""

    ws: Workspace
    folder: str

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows, file by file."""
        for file in self.ws.storage.files(self.folder, ".parquet"):
            yield self.ws.storage.read_table(file.path, columns, schemas.STORED_VIEWS)

    def image_ids(self) -> set[str]:
        """The photographs that have embeddings."""
        return {key for table in self.batches(["image_id"]) for key in table["image_id"].to_pylist()}

    def delete_outdated(self) -> None:
        """Delete the files with the embedding of a photograph that has been stored with other pixels since.

        Photographs that an earlier version stored have no hash, and count as unchanged.
        """
        storage = self.ws.storage
        images = storage.read_table(workspace.IMAGES, ["image_id", "jpeg_sha256"], schemas.IMAGES)
        hashes = dict(zip(images["image_id"].to_pylist(), images["jpeg_sha256"].to_pylist(), strict=True))
        for file in storage.files(self.folder, ".parquet"):
            embedded = storage.read_table(file.path, ["image_id", "jpeg_sha256"]).to_pylist()
            if any((hashes.get(row["image_id"]) or row["jpeg_sha256"]) != row["jpeg_sha256"] for row in embedded):
                storage.delete(file.path)


def first_view(rows: pa.Table) -> pa.Array:
    """Take the first view of rows of schemas.VIEWS: lists of D float16."""
    unit = np.ascontiguousarray(views_of(rows)[:, 0])
    offsets = np.arange(0, unit.size + 1, unit.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(unit.reshape(-1)))


def views_of(rows: pa.Table) -> np.ndarray:
    """Get the unit vectors of rows of schemas.VIEWS: float16 (N, V, D)."""
    num_views = len(rows["length"][0])
    flat = rows["unit"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float16).reshape(rows.num_rows, num_views, -1)


def open_embeddings(ws: Workspace) -> StoredEmbeddings | None:
    """Open the embeddings of the trained model's backbone; None when training changed the backbone."""
    folders = [path for path in ws.storage.entries(workspace.VIEWS) if not path.rsplit("/", 1)[-1].startswith(".")]
    return StoredEmbeddings(ws, folders[0]) if len(folders) == 1 else None


def embed(
    ws: Workspace, settings: "TrainSettings", info: "ClassifierInfo", network: "Network", labels: "Labels"
) -> StoredEmbeddings:
    """Compute the embeddings of the labelled photographs that have none yet, on Ray Data."""
    import ray

    from aitax_ray.training.feed import ROWS_PER_BLOCK, photographs

    folder = f"{workspace.VIEWS}/{_digest(settings, info, network.classifier)}"
    for other in ws.storage.entries(workspace.VIEWS):
        if other != folder:
            ws.storage.delete(other)
    stored = StoredEmbeddings(ws, folder)
    stored.delete_outdated()
    missing = labels.without(stored.image_ids())
    if not len(missing):
        return stored
    gpu = use_gpus(settings.use_gpu)
    blocks, cpus = -(-len(missing) // ROWS_PER_BLOCK), settings.cpus_per_worker
    num = min(settings.count_workers(count_resources().gpus if gpu else 0, len(missing)), blocks)
    check_room("the backbone", num * cpus, num if gpu else 0, "lower --num-workers, or take --no-use-gpu")
    rows = (
        photographs(ws, missing)
        .map_batches(
            partial(decode_views, transform=info.transform, views=settings.views, seed=settings.seed),
            batch_format="pyarrow",
            batch_size=PHOTOGRAPHS_PER_BATCH,
        )
        .map_batches(
            Embedder,
            fn_constructor_args=(info, ray.put(network.for_gpu() if gpu else network.onnx)),
            batch_format="pyarrow",
            batch_size=PHOTOGRAPHS_PER_BATCH,
            compute=ray.data.ActorPoolStrategy(size=num),
            num_cpus=cpus,
            num_gpus=1 if gpu else 0,
        )
    )
    waiting: list[pa.Table] = []
    with progress("embeddings", len(labels), "photographs") as advance:
        advance(len(labels) - len(missing))
        for batch in rows.iter_batches(batch_format="pyarrow", batch_size=None):
            waiting.append(batch)
            advance(len(batch))
            if sum(map(len, waiting)) >= ROWS_PER_FILE:
                _write(ws, folder, waiting)
        _write(ws, folder, waiting)
    return stored


def _write(ws: Workspace, folder: str, waiting: list[pa.Table]) -> None:
    if waiting:
        rows = pa.concat_tables(waiting).cast(schemas.STORED_VIEWS)
        ws.storage.write_table(f"{folder}/part-{uuid.uuid4().hex}.parquet", rows)
        waiting.clear()


def _digest(settings: "TrainSettings", info: "ClassifierInfo", classifier: "Classifier") -> str:
    digest = hashlib.sha256()
    decisive = {
        "transform": info.transform.model_dump(),
        "views": settings.views,
        "seed": settings.seed,
        "columns": schemas.STORED_VIEWS.names,
    }
    digest.update(json.dumps([info.arch, decisive], sort_keys=True).encode())
    for name, tensor in sorted(classifier.backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class Network:
    """A network before training, for the actors. The first use of `onnx` makes the export."""

    def __init__(self, info: "ClassifierInfo", classifier: "Classifier") -> None:
        self._info, self.classifier = info, classifier

    @cached_property
    def onnx(self) -> bytes:
        """The export for CPUs, where ONNX Runtime is several times faster than torch."""
        from aitax_ray.training.onnx import export_onnx

        return export_onnx(self.classifier, self._info.transform, unit_length=False)

    def for_gpu(self) -> dict[str, Any]:
        """Give the weights for torch."""
        return self.classifier.state_dict()


class Embedder:
    """Embeds the views of photographs. Each actor loads the network once."""

    def __init__(self, info: "ClassifierInfo", network: Any) -> None:
        import ray

        self._info, content = info, ray.get(network)
        if isinstance(content, bytes):  # with one thread, because other actors use the other cores
            session = OnnxClassifier(content, num_threads=1)
            self._run = lambda pixels: session.outputs(pixels, ["embedding"])[0]
        else:
            self._run = self._on_gpu(content)

    def _on_gpu(self, state: dict[str, Any]) -> Any:
        import torch

        from aitax_ray.training.model import load_classifier

        classifier = load_classifier(self._info, state).cuda().to(memory_format=torch.channels_last)

        @torch.inference_mode()
        def run(pixels: np.ndarray) -> np.ndarray:
            with torch.autocast("cuda", dtype=torch.bfloat16):
                embedding, _logits = classifier(torch.from_numpy(self._info.transform.normalize(pixels)).cuda())
            found: np.ndarray = embedding.float().cpu().numpy()
            return found

        return run

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Embed a batch: rows of image_id and pixels (V x H x W x 3) become rows of schemas.STORED_VIEWS."""
        size = self._info.transform.crop_size
        flat = np.frombuffer(b"".join(batch["pixels"].to_pylist()), np.uint8)
        embedding = self._run(flat.reshape(-1, size, size, 3)).reshape(batch.num_rows, -1, self._info.embedding_size)
        length = np.linalg.norm(embedding, axis=2)
        unit = embedding / np.maximum(length, 1e-12)[:, :, None]
        return pa.table(
            {
                "image_id": batch["image_id"],
                "unit": pa.array(list(unit.reshape(batch.num_rows, -1).astype(np.float16)), pa.list_(pa.float16())),
                "length": pa.array(list(length.astype(np.float32)), pa.list_(pa.float32())),
                "jpeg_sha256": batch["jpeg_sha256"],
            },
            schemas.STORED_VIEWS,
        )
