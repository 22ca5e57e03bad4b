"""Identification as pure code, from pixels to an `Identification`. No Ray, no HTTP.

Its steps: OnnxClassifier.predict; the scores by the engine's `decisions`, with Gallery.vote where the neighbours have a
share; `rank`; Gallery.illustrate. `Identifier` runs them in one process, the service in several.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aitax_ray.engine.bundle import Engine, Taxon, Thresholds

if TYPE_CHECKING:
    from PIL import Image

    from aitax_ray.evaluation.neighbors import Vote
    from aitax_ray.index.searcher import Searcher

MAX_IMAGES = 5  # photographs of one individual; Pl@ntNet has the same limit
NEIGHBORS = 200  # nearest photographs that are searched for those of the candidates


@dataclass(frozen=True)
class Illustration:
    """A similar photograph of a species, with the credits that its licence asks for."""

    image_id: str
    gbif_id: str
    url: str
    license: str
    creator: str
    rights_holder: str
    publisher: str
    references: str
    similarity: float | None
    """Cosine with the photographs of the request; None when it is not among the nearest."""


@dataclass(frozen=True)
class Candidate:
    """A species that the photograph may show."""

    taxon: Taxon
    score: float
    """Calibrated probability."""
    illustrations: tuple[Illustration, ...]


@dataclass(frozen=True)
class Identification:
    """The answer: its candidates, the most probable one first."""

    candidates: tuple[Candidate, ...]
    engine_version: str


def rank(scores: np.ndarray, thresholds: Thresholds, max_results: int | None) -> list[tuple[int, float]]:
    """Choose the candidates from the score of each class, (K,): (class_index, score), best first.

    The list ends when the sum of the scores reaches `max_total_score`, when a score is below `min_score`, or after
    `max_results`. It has at least one candidate.
    """
    order = np.argsort(-scores, kind="stable")
    before = np.cumsum(scores[order]) - scores[order]
    is_candidate = (scores[order] >= thresholds.min_score) & (before < thresholds.max_total_score)
    number = max(1, int(is_candidate.sum()))
    return [(int(i), float(scores[i])) for i in order[: min(number, max_results or number)]]


class Gallery:
    """Finds indexed photographs of given species that are similar to a photograph."""

    def __init__(self, rows: Any, searcher: "Searcher", num_classes: int) -> None:
        self._rows, self._searcher = rows, searcher
        self._class_index = rows["class_index"].to_numpy()
        self._num_indexed = np.bincount(self._class_index, minlength=num_classes)
        self._of_class: dict[int, list[int]] = defaultdict(list)
        for row, class_index in enumerate(self._class_index.tolist()):
            self._of_class[class_index].append(row)

    def vote(self, embeddings: np.ndarray, vote: "Vote") -> np.ndarray:
        """Let the indexed photographs that are nearest to each of N photographs (N, D) vote: the mean votes, (K,)."""
        neighbors, similarities = self._searcher.search(embeddings, vote.num_neighbors)
        class_index = np.where(neighbors >= 0, self._class_index[np.maximum(neighbors, 0)], -1)
        return np.asarray(vote.count(class_index, similarities, self._num_indexed).mean(axis=0))

    def illustrate(self, embeddings: np.ndarray, classes: Sequence[int], per_class: int) -> list[list[Illustration]]:
        """Find the most similar photographs of each class, best first; embeddings (N, D) show one individual.

        A class with too few photographs among the nearest gets others of its photographs.
        """
        mean = embeddings.mean(axis=0, keepdims=True)
        mean /= max(float(np.linalg.norm(mean)), 1e-12)
        (neighbors,), (similarities,) = self._searcher.search(mean, NEIGHBORS)
        found = neighbors >= 0
        similarity_of = dict(zip(neighbors[found].tolist(), similarities[found].tolist(), strict=True))
        answer = []
        for class_index in classes:
            near = [row for row in similarity_of if self._class_index[row] == class_index][:per_class]
            others = (row for row in self._of_class[class_index] if row not in similarity_of)
            chosen = near + [row for row, _ in zip(others, range(per_class - len(near)), strict=False)]
            answer.append([self._illustration(row, similarity_of.get(row)) for row in chosen])
        return answer

    def _illustration(self, row: int, similarity: float | None) -> Illustration:
        names = [name for name in Illustration.__dataclass_fields__ if name != "similarity"]
        return Illustration(**{n: self._rows[n][row].as_py() for n in names}, similarity=similarity)


def assemble(
    engine_version: str, taxa: Sequence[Taxon], ranked: list[tuple[int, float]], illustrations: list[list[Illustration]]
) -> Identification:
    """Assemble an answer from its parts."""
    pairs = zip(ranked, illustrations, strict=True)
    candidates = tuple(Candidate(taxa[index], score, tuple(images)) for (index, score), images in pairs)
    return Identification(candidates, engine_version)


class Identifier:
    """Answers from an engine in this process."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._classifier = engine.classifier()
        self._gallery = Gallery(engine.rows, engine.searcher(), len(engine.info.classes))

    def identify(
        self, photos: Sequence["Image.Image"], max_results: int | None = None, num_illustrations: int = 3
    ) -> Identification:
        """Identify one individual from one or more photographs of it."""
        info = self.engine.info
        embeddings, logits = self._classifier.predict(np.stack([info.transform.pixels(photo) for photo in photos]))
        scores, vote = info.decisions.fusion.probabilities(logits)[0], info.decisions.vote
        if vote.share:
            scores = vote.join(scores, self._gallery.vote(embeddings, vote))
        ranked = rank(scores, info.thresholds, max_results)
        illustrations = self._gallery.illustrate(embeddings, [index for index, _ in ranked], num_illustrations)
        return assemble(info.version, self.engine.taxa, ranked, illustrations)
