"""The gallery: finds indexed photographs that are similar to those of a request, and lets them vote."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from aitax_ray.evaluation.neighbors import Vote
    from aitax_ray.index.shards import Index


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
    similarity: float
    """Cosine with the mean of the photographs of the request."""


class Gallery:
    """Finds indexed photographs of given species that are similar to a photograph."""

    def __init__(self, index: "Index", num_classes: int) -> None:
        self._index = index
        self._num_indexed = index.count_classes(num_classes)

    def vote(self, embeddings: np.ndarray, vote: "Vote") -> np.ndarray:
        """Let the indexed photographs that are nearest to each of N photographs (N, D) vote: the mean votes, (K,)."""
        neighbors, similarities = self._index.search(embeddings, vote.num_neighbors)
        votes = vote.count(self._index.classes_of(neighbors), similarities, self._num_indexed)
        return np.asarray(votes.mean(axis=0))

    def illustrate(self, embeddings: np.ndarray, classes: Sequence[int], per_class: int) -> list[list[Illustration]]:
        """Find the most similar photographs of each class, best first; embeddings (N, D) show one individual."""
        mean = embeddings.mean(axis=0)
        mean /= max(float(np.linalg.norm(mean)), 1e-12)
        return [self._nearest_of(class_index, mean, per_class) for class_index in classes]

    def _nearest_of(self, class_index: int, query: np.ndarray, num: int) -> list[Illustration]:
        found: list[tuple[float, int, int]] = []
        for number, first, after in self._index.ranges_of(class_index):
            cosines = self._index.shards[number].vectors[first:after].astype(np.float32) @ query
            best = np.argsort(-cosines, kind="stable")[:num]
            found += [(float(cosines[place]), number, first + int(place)) for place in best]
        found.sort(key=lambda one: -one[0])
        return [self._illustration(*one) for one in found[:num]]

    def _illustration(self, similarity: float, shard: int, row: int) -> Illustration:
        names = [name for name in Illustration.__dataclass_fields__ if name != "similarity"]
        columns = self._index.shards[shard].rows
        return Illustration(**{n: columns[n][row].as_py() for n in names}, similarity=similarity)
