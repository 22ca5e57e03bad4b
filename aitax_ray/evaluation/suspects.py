"""Suspected label errors: photographs whose label a model contradicts that has not learned from them.

The model is linear discriminant analysis on the embeddings, in five folds: each fold is judged by a model of the
others. It has a closed form, so that it costs little more than reading the embeddings. That a model which has not seen
a photograph finds its label error is the finding of Northcutt et al. 2021, "Confident Learning", arXiv 1911.00068.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

NUM_FOLDS = 5
SHRINKAGE = 0.1  # of the covariance towards a multiple of the identity, for species with few photographs
TEMPERATURES = np.geomspace(0.25, 64.0, 17, dtype=np.float32)  # discriminant analysis is too sure of itself
MIN_CONFIDENCE = 0.9
MAX_LABEL_SCORE = 0.05
CHUNK = 4096  # photographs that are computed with at a time


@dataclass(frozen=True)
class Suspect:
    """A photograph with a doubtful label."""

    place: int
    """Of the photograph among those that were given."""
    looks_like: int
    """The class_index that the model gives it."""
    confidence: float
    """Probability of that class."""
    label_score: float
    """Probability of the class that the label says."""


def find_suspects(
    unit: np.ndarray, target: np.ndarray, group: np.ndarray, num_classes: int, *, most: int = 1000
) -> list[Suspect]:
    """Find photographs with a doubtful label, the most doubtful first, at most `most`.

    `unit` (N, D) holds embeddings, `target` (N,) their class_index, `group` (N,) numbers: photographs of one group are
    in one fold. A photograph whose class has no photograph in the other folds is not judged.
    """
    usable = np.flatnonzero(np.isfinite(np.abs(unit).max(axis=1, initial=0)))  # a network may have given no numbers
    if len(usable) < len(unit):
        found = find_suspects(unit[usable], target[usable], group[usable], num_classes, most=most)
        return [replace(suspect, place=int(usable[suspect.place])) for suspect in found]
    fold = np.random.default_rng(0).permutation(int(group.max(initial=0)) + 1)[group] % NUM_FOLDS
    parts = (fold == number for number in range(NUM_FOLDS))
    judged = [
        rows for part in parts if part.any() and not part.all() for rows in _judge(unit, target, part, num_classes)
    ]
    if not judged:
        return []
    place, looks_like, confidence, label_score = (np.concatenate(column) for column in zip(*judged, strict=True))
    with np.errstate(divide="ignore"):
        losses = -np.log(np.maximum(label_score, 1e-12)).sum(axis=0)
    at = int(losses.argmin())
    confidence, label_score = confidence[:, at], label_score[:, at]
    is_suspect = (looks_like != target[place]) & (confidence >= MIN_CONFIDENCE) & (label_score <= MAX_LABEL_SCORE)
    order = np.flatnonzero(is_suspect)[np.argsort(label_score[is_suspect] - confidence[is_suspect], kind="stable")]
    return [
        Suspect(int(place[row]), int(looks_like[row]), float(confidence[row]), float(label_score[row]))
        for row in order[:most]
    ]


def _judge(
    unit: np.ndarray, target: np.ndarray, is_judged: np.ndarray, num_classes: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Judge some photographs by a model of the others, chunk by chunk.

    Yields places (n,), the best classes (n,), and the probabilities of the best class and of the label at each of
    TEMPERATURES (n, T).
    """
    weight, bias = _fit(unit, target, np.flatnonzero(~is_judged), num_classes)
    rows = np.flatnonzero(is_judged & np.isfinite(bias)[target])
    for start in range(0, len(rows), CHUNK):
        place = rows[start : start + CHUNK]
        logits = unit[place].astype(np.float32) @ weight.T + bias
        logits -= logits.max(axis=1, keepdims=True)
        best = logits.argmax(axis=1)
        label = logits[np.arange(len(place)), target[place]]
        total = np.stack([np.exp(logits / temperature).sum(axis=1) for temperature in TEMPERATURES], axis=1)
        yield place, best, 1 / total, np.exp(label[:, None] / TEMPERATURES) / total


def _fit(unit: np.ndarray, target: np.ndarray, rows: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit the discriminant analysis: weight (K, D) and bias (K,), which is -inf for a class without photographs."""
    size = unit.shape[1]
    count = np.bincount(target[rows], minlength=num_classes)
    mean = np.zeros((num_classes, size), np.float32)
    scatter = np.zeros((size, size))
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        embedding = unit[part].astype(np.float32)
        np.add.at(mean, target[part], embedding)
        scatter += embedding.T @ embedding
    mean /= np.maximum(count, 1)[:, None]
    covariance = (scatter - (mean * count[:, None]).T @ mean) / max(len(rows), 1)
    spread = max(float(np.trace(covariance)) / size, 1e-6)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * spread * np.eye(size)
    weight = linalg.solve(covariance, mean.T, assume_a="pos").T.astype(np.float32)
    with np.errstate(divide="ignore"):
        log_prior = np.log(count / max(len(rows), 1))
    return weight, (log_prior - (weight * mean).sum(axis=1) / 2).astype(np.float32)
