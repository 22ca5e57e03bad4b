"""Checks an engine as it was written, before it becomes the current one."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from aitax_ray.engine.bundle import Engine
from aitax_ray.errors import EngineError
from aitax_ray.index.search_info import SearchInfo
from aitax_ray.index.shards import Index
from aitax_ray.training.onnx_classifier import OnnxClassifier

log = logging.getLogger(__name__)

NUM_QUERIES, NUM_NEIGHBORS = 256, 10
# The recall may be so much lower than `index` measured, with other queries. The standard error of both is about 0.01.
MAX_LOSS = 0.1
TOLERANCE = 1e-4  # of logits and embeddings: the same file on the same machine, in another session of onnxruntime
SAME_COSINE = 1e-4  # that two ways to compute a cosine of float16 vectors differ by
BLOCK = 50_000  # vectors that are compared at a time


@dataclass(frozen=True)
class Written:
    """What the checks found."""

    recall: float
    """Share of the NUM_NEIGHBORS nearest photographs that the search finds."""
    without_illustration: list[str]
    """The species_keys of which no photograph can be shown."""


def check_written(engine: Engine, model: bytes, photographs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Written:
    """Read everything back and check it. `photographs` yields pixels uint8 (N, H, W, 3), and anything.

    Raises EngineError when a file is not what was written, when the classifier does not predict as `model`, when parts
    of the engine do not fit together, or when the search does not find what exact search finds.
    """
    engine.verify()
    _check_predictions(engine.classifier(), OnnxClassifier(model), photographs)
    index = engine.index()
    recall, expected = measure_recall(index), _expected_recall(index)
    if recall < expected - MAX_LOSS:
        raise EngineError(
            f"the search finds {recall:.0%} of the {NUM_NEIGHBORS} nearest photographs, and it found {expected:.0%} "
            "when it was built: run `aitax index --force`"
        )
    without = find_species_without_illustration(index, engine.info.classes)
    if without:
        log.warning(
            "%s of %s species have no photograph with a licence that can be shown: engines/report.json lists them",
            f"{len(without):,}", f"{len(engine.info.classes):,}",
        )  # fmt: skip
    return Written(recall, without)


def measure_recall(index: Index, num_queries: int = NUM_QUERIES, k: int = NUM_NEIGHBORS) -> float:
    """Search the vectors of some rows, and give the share of the k nearest rows of exact search that is found.

    A row counts if it is as near as the last one of exact search: among equal photographs each one is right.
    """
    queries = _vectors(index, np.unique(np.linspace(0, len(index) - 1, num_queries).astype(np.int64)))
    k = min(k, len(index))
    found, _ = index.search(queries, k)
    vectors = _vectors(index, np.maximum(found, 0).ravel()).reshape(*found.shape, -1)
    cosines = np.where(found >= 0, np.einsum("qd,qkd->qk", queries, vectors), -np.inf)
    nearest = np.full((len(queries), k), -np.inf, np.float32)
    for shard in index.shards:
        for start in range(0, len(shard), BLOCK):
            block = queries @ shard.vectors[start : start + BLOCK].astype(np.float32).T
            nearest = -np.partition(-np.concatenate([nearest, block], axis=1), k - 1, axis=1)[:, :k]
    return float((cosines >= nearest.min(axis=1, keepdims=True) - SAME_COSINE).mean())


def _expected_recall(index: Index) -> float:
    """Give the recall@10 that `index` measured, the lower one of the search with ScaNN and without it."""
    measured = [SearchInfo.read(shard.folder).measured for shard in index.shards]
    recalls = [min(one.recall_at_10, one.leaves_recall_at_10) for one in measured]
    return float(np.average(recalls, weights=[len(shard) for shard in index.shards]))


def find_species_without_illustration(index: Index, classes: Sequence[str]) -> list[str]:
    """Find the species of which the index has no photograph that may be shown, has a licence, and can be seen.

    It can be seen if it has a thumbnail or a web address.
    """
    num_shown = np.zeros(len(classes), np.int64)
    for shard in index.shards:
        rows = shard.rows
        can_be_seen = pc.or_(pc.not_equal(rows["url"], ""), pc.greater(rows["thumbnail_length"], 0))
        is_shown = pc.and_(pc.and_(rows["is_shown"], pc.not_equal(rows["license"], "")), can_be_seen)
        num_shown += np.bincount(shard.class_index[is_shown.to_numpy()], minlength=len(classes))
    return [key for key, num in zip(classes, num_shown, strict=True) if not num]


def _check_predictions(
    written: OnnxClassifier, model: OnnxClassifier, photographs: Iterable[tuple[np.ndarray, np.ndarray]]
) -> None:
    for pixels, _ in photographs:
        for found, expected in zip(written.predict(pixels), model.predict(pixels), strict=True):
            # Where both are no numbers the difference is none: parity.check_parity refuses such a classifier.
            if not np.allclose(found, expected, rtol=1e-4, atol=TOLERANCE, equal_nan=True):
                raise EngineError(
                    "the classifier that was written does not predict as the one that was checked before: check the "
                    "storage, and publish again"
                )


def _vectors(index: Index, rows: np.ndarray) -> np.ndarray:
    """Give the vectors of some rows of the index, float32 (N, D)."""
    vectors = np.zeros((len(rows), index.shards[0].vectors.shape[1]), np.float32)
    for shard, start in zip(index.shards, index.starts, strict=False):
        here = (rows >= start) & (rows < start + len(shard))
        vectors[here] = shard.vectors[rows[here] - start]
    return vectors
