"""Extends the head of the trained classifier by rows for the species that were added: writes index/added/head."""

import logging
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from aitax_ray import schemas, workspace
from aitax_ray.index import added
from aitax_ray.index.assemble import collect
from aitax_ray.index.head_rows import Examples, Known, fit_rows, fit_shift, join_known, reduce_logits
from aitax_ray.training.embeddings import views_of
from aitax_ray.workspace import Workspace

if TYPE_CHECKING:
    from aitax_ray.training.feed import Labels
    from aitax_ray.training.model import PrototypeHead

# Photographs that rows are fitted on, in memory: of all trained species together, of all new ones, of val. Of each new
# species MAX_PER_SPECIES at most, and MIN_PER_SPECIES also where there are very many species.
MAX_TRAINED, MAX_NEW, MAX_HELD_OUT = 20_000, 20_000, 20_000
MIN_PER_SPECIES, MAX_PER_SPECIES = 10, 100
CHUNK = 4096
SEED = 0

log = logging.getLogger(__name__)


def extend_head(ws: Workspace, own: Iterable[pa.Table]) -> dict[str, float | None]:
    """Fit rows for the new species and write them. Returns figures of the fit.

    `own` yields the embeddings of the training photographs of the root itself, as schemas.EMBEDDINGS. Those of val, and
    of all that was added, are in index/added/views/.
    """
    from aitax_ray.training.feed import Labels
    from aitax_ray.training.model import PrototypeHead
    from aitax_ray.training.predict import applying, read_head, read_info

    num_trained, num_new = len(read_info(ws).classes), len(added.read_added_classes(ws))
    split = added.read_joined(ws, workspace.SPLIT, schema=schemas.SPLIT)
    train, val = Labels(split, ("train",)), Labels(split, ("val",))
    counts = np.bincount(train.class_index, minlength=num_trained + num_new)
    most = max(MIN_PER_SPECIES, min(MAX_PER_SPECIES, MAX_NEW // num_new))
    sample, val = _draw(train, num_trained, MAX_TRAINED, most), _draw(val, num_trained, MAX_HELD_OUT, MAX_HELD_OUT)
    unit = collect(chain(own, added.read_embeddings(ws)), sample.image_ids).astype(np.float32)
    val_unit, val_length = _read_views(ws, val)
    head = read_head(ws)
    # The index holds no lengths. They differ little, so the training photographs get the mean of those of val.
    length = float(val_length.mean()) if len(val_length) else 1.0
    occurrence = _number_occurrences(split)

    def examples(labels: "Labels", embedding: np.ndarray) -> Examples:
        target = labels.class_index.astype(np.int64)
        return Examples(
            embedding=embedding,
            known=_reduce(applying(head), embedding, target),
            new=np.where(target >= num_trained, target - num_trained, -1),
            # A species with few photographs is not outweighed by the others; one with many still counts more.
            weight=labels.weight / np.sqrt(counts[target]),
            occurrence=np.array([occurrence[key] for key in labels.image_ids.tolist()], np.int64),
        )

    fitted = examples(sample, length * unit)
    held_out = examples(val, val_length[:, None] * val_unit)
    if isinstance(head, PrototypeHead):
        weight, directions = _prototypes(head, fitted, num_new), _directions(head, held_out.embedding)
        shift = fit_shift(head.scale.item() * directions @ weight.T, held_out)
        added.write_head(ws, weight, np.full(num_new, shift))
        return {"shift": shift}
    rows = fit_rows(fitted, held_out, num_new)
    added.write_head(ws, rows.weight, rows.bias)
    return {"scale": rows.scale, "shift": rows.shift}


def _draw(labels: "Labels", num_trained: int, most_trained: int, most_per_species: int) -> "Labels":
    """Draw photographs of trained species, `most_trained` in all, and of new ones, `most_per_species` of each."""
    order = np.random.default_rng(SEED).permutation(len(labels))
    target = labels.class_index[order]
    is_trained = target < num_trained
    by_class = np.argsort(target, kind="stable")
    place = np.empty(len(order), np.int64)  # number of a photograph among the drawn ones of its species
    place[by_class] = np.arange(len(order)) - np.searchsorted(target[by_class], target[by_class])
    is_drawn = np.where(is_trained, np.cumsum(is_trained) <= most_trained, place < most_per_species)
    chosen = np.zeros(len(order), bool)
    chosen[order[is_drawn]] = True
    return labels.where(chosen)


def _read_views(ws: Workspace, labels: "Labels") -> tuple[np.ndarray, np.ndarray]:
    """Read the embeddings of unit length (N, D), float32, and the lengths (N,) of photographs of val."""
    unit, length = np.zeros((len(labels), 1), np.float32), np.zeros(len(labels), np.float32)
    for rows in added.read_views(ws):
        place, found = labels.find(rows["image_id"])
        if not found.any():
            continue
        kept = rows.filter(pa.array(found))
        vectors = views_of(kept)[:, 0].astype(np.float32)
        if unit.shape[1] != vectors.shape[1]:
            unit = np.zeros((len(labels), vectors.shape[1]), np.float32)
        unit[place] = vectors
        length[place] = np.stack(kept["length"].to_numpy())[:, 0]
    return unit, length


def _number_occurrences(split: pa.Table) -> dict[bytes, int]:
    """Number the occurrence of each photograph."""
    columns = (split[name].to_pylist() for name in ("image_id", "gbif_id", "species_key"))
    numbers: dict[tuple[str, str], int] = {}
    return {
        key.encode(): numbers.setdefault((gbif_id, of), len(numbers)) for key, gbif_id, of in zip(*columns, strict=True)
    }


def _reduce(head: Callable[[np.ndarray], np.ndarray], embedding: np.ndarray, target: np.ndarray) -> Known:
    starts = range(0, max(len(embedding), 1), CHUNK)
    return join_known([reduce_logits(head(embedding[at : at + CHUNK]), target[at : at + CHUNK]) for at in starts])


def _directions(head: "PrototypeHead", embedding: np.ndarray) -> np.ndarray:
    """The embeddings as a head of prototypes compares them, float32 (N, D)."""
    centred = _normalize(embedding) - head.center.numpy()
    return _normalize(centred)


def _prototypes(head: "PrototypeHead", examples: Examples, num_new: int) -> np.ndarray:
    """The prototypes of the new species, as training makes those of the others: float32 (M, D)."""
    is_new = examples.new >= 0
    sums = np.zeros((num_new, examples.embedding.shape[1]), np.float32)
    directions = _directions(head, examples.embedding[is_new])
    np.add.at(sums, examples.new[is_new], directions * examples.weight[is_new, None])
    return _normalize(sums)


def _normalize(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)
