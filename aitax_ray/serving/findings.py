"""What galleries find, and how the findings of the parts of an index are joined to those of the whole. No Ray, no HTTP.

A large index is divided: each part has some of its shards, in another process. Joined, the parts give the answer that
one gallery of all shards would give. A species may lie in two parts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aitax_ray.evaluation.neighbors import Neighbors, Vote


class Illustration(NamedTuple):
    """A similar photograph of a species, with the credits that its licence asks for.

    A tuple, since an answer has about 50: data classes take four times as long to make, to pass on and to change.
    """

    image_id: str
    gbif_id: str
    occurrence: str
    """Its page at GBIF; "" for records that are not GBIF's."""
    url: str
    """The original on the web; "" where there is none."""
    license: str
    creator: str
    rights_holder: str
    publisher: str
    references: str
    has_thumbnail: bool
    similarity: float
    """Cosine with the most similar photograph of the request."""
    license_id: str = ""
    """The licence as aitax_ray.licenses names it."""
    event_date: str = ""
    """When it was taken: ISO 8601 as given."""


@dataclass(frozen=True)
class Nearest:
    """The photographs of a part that are nearest to those of a request."""

    neighbors: Neighbors
    num_indexed: dict[int, int]
    """Photographs in the part per class: of each class among the neighbours, and of those that other parts may have."""


@dataclass(frozen=True)
class Comparison:
    """An individual beside the indexed photographs."""

    similarity: np.ndarray
    """float32 (N,): cosine of each of its photographs with the nearest indexed one; -1 where there is none."""
    votes: np.ndarray | None
    """float32 (N, K): the votes of the neighbours of each photograph; None where they have no share."""


def num_neighbors(vote: Vote) -> int:
    """Give the number of nearest photographs that a comparison needs."""
    return vote.num_neighbors if vote.share else 1


def join_nearest(parts: Sequence[Nearest], vote: Vote, num_classes: int) -> Comparison:
    """Join what the parts of an index found for an individual, in the order of the parts."""
    class_index = np.concatenate([part.neighbors.class_index for part in parts], axis=1)
    similarity = np.concatenate([part.neighbors.similarity for part in parts], axis=1)
    nearest = np.nan_to_num(similarity, nan=-1.0).max(axis=1, initial=-1.0)
    if not vote.share:
        return Comparison(nearest, None)
    if len(parts) > 1:
        best = np.argsort(-similarity, axis=1, kind="stable")[:, : vote.num_neighbors]  # not a number comes last
        class_index, similarity = (np.take_along_axis(table, best, axis=1) for table in (class_index, similarity))
    num_indexed = np.zeros(num_classes, np.int64)
    for found in np.unique(class_index[class_index >= 0]).tolist():
        num_indexed[found] = sum(part.num_indexed.get(found, 0) for part in parts)
    return Comparison(nearest, vote.count(class_index, similarity, num_indexed))


def join_illustrations(parts: Sequence[list[list[Illustration]]], per_class: int) -> list[list[Illustration]]:
    """Join the lists that the parts of an index found for each class, each of `per_class` photographs or all.

    Similarities are rounded afterwards: rounded ones would change the order.
    """
    answer = []
    for lists in zip(*parts, strict=True):
        images = [image for images in lists for image in images]
        if len(lists) > 1:
            images.sort(key=lambda image: -image.similarity)
            order = choose(find_firsts(image.gbif_id for image in images), per_class)
            images = [images[place] for place in order.tolist()]
        # float16 is a little longer than 1
        answer.append([image._replace(similarity=round(min(max(image.similarity, -1.0), 1.0), 4)) for image in images])
    return answer


def find_firsts(gbif_ids: Iterable[str]) -> list[bool]:
    """Tell which photographs are the first of their occurrence. Those without one all are."""
    is_first, seen = [], set[str]()
    for gbif_id in gbif_ids:
        is_first.append(gbif_id == "" or gbif_id not in seen)
        seen.add(gbif_id)
    return is_first


def choose(is_first: Sequence[bool], num: int) -> np.ndarray:
    """Choose the first `num` photographs of different occurrences, and others only where there are too few: places."""
    return np.sort(np.argsort(~np.array(is_first, bool), kind="stable")[:num])
