"""The trained classifier on batches of decoded photographs, as actors of Ray Data run it for evaluate and index.

INPUT rows of Predictor, from feed.decode_for_evaluation: image_id, class_index, split, pixels
OUTPUT rows of Predictor: image_id, class_index, split, embedding (unit length), logits
"""

import hashlib
from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa

from aitax_ray import schemas, workspace
from aitax_ray.training.feed import stack
from aitax_ray.training.model import HEADS, Classifier, ClassifierInfo, Head, load_classifier
from aitax_ray.training.onnx_classifier import OnnxClassifier
from aitax_ray.training.transforms import EvalTransform
from aitax_ray.workspace import Workspace


def read_info(ws: Workspace) -> ClassifierInfo:
    """Read the description of the trained weights."""
    return ClassifierInfo.model_validate(ws.storage.read_json(workspace.CLASSIFIER))


def read_classifier(ws: Workspace) -> tuple[ClassifierInfo, Classifier]:
    """Read the trained classifier of a workspace."""
    from safetensors.torch import load

    info = read_info(ws)
    return info, load_classifier(info, load(ws.storage.read_bytes(workspace.WEIGHTS)))


def digest_backbone(ws: Workspace) -> str:
    """Compute the digest of all that the embeddings of the trained classifier depend on: 64 hex digits."""
    from safetensors.numpy import load

    info = read_info(ws)
    digest = hashlib.sha256(f"{info.arch}\n{info.transform.model_dump_json()}\n".encode())
    for name, weights in sorted(load(ws.storage.read_bytes(workspace.WEIGHTS)).items()):
        if name.startswith("backbone."):
            digest.update(name.encode() + weights.tobytes())
    return digest.hexdigest()


def read_head(ws: Workspace) -> Head:
    """Read the head of the trained classifier."""
    from safetensors.torch import load

    info = read_info(ws)
    state = load(ws.storage.read_bytes(workspace.WEIGHTS))
    head = HEADS[info.head](info.embedding_size, len(info.classes))
    head.load_state_dict({name.removeprefix("head."): state[name] for name in state if name.startswith("head.")})
    return head


def applying(head: Head) -> Callable[[np.ndarray], np.ndarray]:
    """Make a function of a head: it maps embeddings float32 (N, D) to logits float32 (N, K)."""
    import torch

    @torch.inference_mode()
    def apply_head(embedding: np.ndarray) -> np.ndarray:
        logits: np.ndarray = head(torch.from_numpy(np.require(embedding, requirements="W"))).numpy()
        return logits

    return apply_head


def apply_classifier(
    classifier: Classifier, transform: EvalTransform, pixels: np.ndarray, device: str = "cpu", bf16: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Map pixels uint8 (N, H, W, 3) to embeddings of unit length (N, D) and logits (N, K), both float32.

    With `bf16` the network computes in bfloat16.
    """
    import torch

    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bf16):
        embedding, logits = classifier(torch.from_numpy(transform.normalize(pixels)).to(device))
        unit = torch.nn.functional.normalize(embedding.float())
    return unit.cpu().numpy(), logits.float().cpu().numpy()


class Predictor:
    """Applies the classifier to batches. Each actor loads the classifier once."""

    bf16_on_gpu = False  # the evaluation computes from logits, and needs them exact

    def __init__(self, root: str, on_gpu: bool = False) -> None:
        ws = Workspace(root)
        self.info = read_info(ws)
        if ws.storage.exists(workspace.ONNX) and not on_gpu:  # with one thread, because the other cores decode
            self._predict = OnnxClassifier(ws.storage.read_bytes(workspace.ONNX), num_threads=1).predict
        else:
            import torch

            device = "cuda" if on_gpu else "cpu"
            classifier = read_classifier(ws)[1].to(device).to(memory_format=torch.channels_last)
            self._predict = partial(
                apply_classifier, classifier, self.info.transform, device=device, bf16=on_gpu and self.bf16_on_gpu
            )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Replace the pixels of a batch by embedding and logits."""
        embedding, logits = self._predict(stack(batch, self.info.transform.crop_size))
        kept = batch.select(["image_id", "class_index", "split"])
        return kept.append_column("embedding", as_lists(embedding)).append_column("logits", as_lists(logits))


class Embedder(Predictor):
    """A predictor that returns schemas.EMBEDDINGS: the mean of the embeddings of a photograph's views, of unit length.

    INPUT rows, from views.decode_averaged_views: image_id, jpeg_sha256, pixels of all views
    """

    bf16_on_gpu = True

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Embed a batch."""
        size = self.info.transform.crop_size
        pixels = np.frombuffer(b"".join(batch["pixels"].to_pylist()), np.uint8).reshape(-1, size, size, 3)
        mean = self._predict(pixels)[0].reshape(batch.num_rows, -1, self.info.embedding_size).mean(axis=1)
        unit = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
        columns = {name: batch[name] for name in ("image_id", "jpeg_sha256")}
        return pa.table({**columns, "embedding": as_lists(unit, np.float16)}).select(schemas.EMBEDDINGS.names)


class ViewEmbedder(Predictor):
    """A predictor that returns schemas.VIEWS of one view: the embeddings with the lengths that they had.

    The exported classifier gives unit vectors. A linear head grows with the length: so its logits tell the length.
    """

    def __init__(self, root: str, on_gpu: bool = False) -> None:
        super().__init__(root, on_gpu)
        self._head = applying(read_head(Workspace(root)))

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Embed a batch."""
        rows = super().__call__(batch)
        unit, logits = as_matrix(rows["embedding"]), as_matrix(rows["logits"])
        length = np.ones(len(unit), np.float32)
        if self.info.head == "linear":
            bias = self._head(np.zeros_like(unit[:1]))
            direction = self._head(unit) - bias
            length = ((logits - bias) * direction).sum(axis=1) / np.maximum((direction**2).sum(axis=1), 1e-30)
        columns = {
            "image_id": rows["image_id"],
            "unit": pa.array(list(unit.astype(np.float16)), pa.list_(pa.float16())),
            "length": pa.array(list(length[:, None].astype(np.float32)), pa.list_(pa.float32())),
        }
        return pa.table(columns, schemas.VIEWS)


class AdjustedHits(Predictor):
    """A predictor that returns class_index and hits. `frequencies` has the training photographs of each class.

    A row of hits has a number for each strength of the logit adjustment: 1 if the class predicted with it is right,
    else 0.
    """

    def __init__(self, root: str, on_gpu: bool, frequencies: list[int]) -> None:
        super().__init__(root, on_gpu)
        from aitax_ray.training.long_tail import log_prior

        self._prior = log_prior(frequencies)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Compute the hits of a batch."""
        import torch

        from aitax_ray.training.long_tail import adjusted_hits

        rows = super().__call__(batch)
        logits, target = as_matrix(rows["logits"]), rows["class_index"].to_numpy().astype(np.int64)
        hits = adjusted_hits(torch.from_numpy(logits), torch.from_numpy(target), self._prior)
        return rows.select(["class_index"]).append_column("hits", as_lists(hits.float().numpy()))


def as_lists(matrix: np.ndarray, number: type[np.floating] = np.float32) -> pa.ListArray:
    """Turn a matrix (N, D) into a column of N lists of numbers of this type."""
    offsets = np.arange(0, matrix.size + 1, matrix.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(matrix, number).reshape(-1)))


def as_matrix(column: pa.ChunkedArray) -> np.ndarray:
    """Turn a column of N lists of one length into a float32 matrix (N, D); an empty column becomes (0, 0)."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(len(column), len(flat) // max(len(column), 1))
