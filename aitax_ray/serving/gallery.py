"""The gallery: finds indexed photographs that are similar to those of a request, and lets them vote. No Ray, no HTTP.

It shows only photographs that the index permits to show. Withdrawn photographs are neither shown nor searched.
"""

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from aitax_ray.evaluation.neighbors import Neighbors, Vote
from aitax_ray.index.exact import dot_products
from aitax_ray.index.lookup import Lookup
from aitax_ray.licenses import deed
from aitax_ray.schemas import OCCURRENCE_PAGE
from aitax_ray.serving.findings import (
    Comparison,
    Illustration,
    Nearest,
    choose,
    find_firsts,
    join_illustrations,
    join_nearest,
    num_neighbors,
)
from aitax_ray.web import web_address

if TYPE_CHECKING:
    from aitax_ray.index.shards import Index

# Photographs that are compared for an answer, over all its species: 6 ms on one core, with 512 numbers each.
MAX_COMPARED = 100_000
NEIGHBORS = 200  # nearest photographs of all species that join those of species too large to compare
_COLUMNS = (
    *("image_id", "gbif_id", "url", "license", "license_id", "creator", "rights_holder", "publisher", "references"),
    *("event_date", "is_at_gbif", "thumbnail_length"),
)


@dataclass(frozen=True)
class Picture:
    """The thumbnail of an indexed photograph: a WebP."""

    content: bytes
    license_address: str
    """The page of its licence; "" when it is not known."""


@dataclass(frozen=True)
class _Permitted:
    """What may be shown and searched. It is replaced as a whole, so that a request sees one state."""

    is_shown: np.ndarray
    """bool (N,), for each row of the index."""
    withdrawn: np.ndarray
    """int64, ascending: the rows of withdrawn photographs."""
    num_indexed: np.ndarray
    """int64 (K,): photographs per class without the withdrawn ones."""


class _Compared(NamedTuple):
    """Photographs of a class that were compared with those of a request."""

    rows: np.ndarray
    """int64 (N,)"""
    similarities: np.ndarray
    """float32 (N,)"""


class Gallery:
    """Finds indexed photographs of given species that are similar to a photograph."""

    def __init__(self, index: "Index", num_classes: int) -> None:
        self._index, self._lookup = index, Lookup(index)
        columns = [shard.rows["is_shown"].to_numpy() for shard in index.shards]
        self._is_shown = np.concatenate([np.zeros(0, bool), *columns])
        self._num_classes, self._num_indexed = num_classes, index.count_classes(num_classes)
        # The classes of which other parts of the index may have photographs, too: classes are in order.
        ends = [shard.class_index[[0, -1]] for shard in index.shards if len(shard)]
        self._outermost = np.unique(np.concatenate([np.zeros(0, np.int32), *ends]))
        self._permitted = _Permitted(self._is_shown, np.zeros(0, np.int64), self._num_indexed)

    def withdraw(self, image_ids: Collection[str]) -> None:
        """Withdraw these photographs, and no others. Requests that run already may still show them."""
        rows = self._lookup.rows_of(image_ids)
        is_shown = self._is_shown
        if len(rows):
            is_shown = is_shown.copy()
            is_shown[rows] = False
        counts = np.bincount(self._index.classes_of(rows), minlength=len(self._num_indexed))
        self._permitted = _Permitted(is_shown, rows, self._num_indexed - counts)

    def search(self, embeddings: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest photographs that are not withdrawn, see Index.search."""
        return self._search(self._permitted, embeddings, k)

    def compare(self, embeddings: np.ndarray, vote: Vote) -> Comparison:
        """Compare N photographs (N, D) of one individual with the indexed ones that are nearest to each."""
        return join_nearest([self.find_nearest(embeddings, num_neighbors(vote))], vote, self._num_classes)

    def find_nearest(self, embeddings: np.ndarray, k: int) -> Nearest:
        """Find the k nearest photographs that are not withdrawn of each of N photographs (N, D)."""
        permitted = self._permitted
        rows, similarities = self._search(permitted, embeddings, k)
        classes = self._index.classes_of(rows)
        counted = np.union1d(classes[classes >= 0], self._outermost)
        num_indexed = dict(zip(counted.tolist(), permitted.num_indexed[counted].tolist(), strict=True))
        return Nearest(Neighbors(classes, similarities), num_indexed)

    def illustrate(self, embeddings: np.ndarray, classes: Sequence[int], per_class: int) -> list[list[Illustration]]:
        """Find the most similar photographs of each class, see `find_similar`, with rounded similarities."""
        return join_illustrations([self.find_similar(embeddings, classes, per_class)], per_class)

    def find_similar(self, embeddings: np.ndarray, classes: Sequence[int], per_class: int) -> list[list[Illustration]]:
        """Find the most similar photographs of each class, best first; embeddings (N, D) show one individual.

        A photograph is as similar as it is to the most similar one of the request. So a flower is shown beside a
        flower, and a leaf beside a leaf; their mean would look for photographs that show neither well. No two
        photographs of one occurrence are shown where other occurrences suffice.

        All permitted photographs of a class are compared, while those of all `classes` together are at most
        MAX_COMPARED. Above that the large classes are compared in part: their first photographs, in the order of a
        hash, which is random, and those among the NEIGHBORS nearest photographs of all species.
        """
        is_shown, ranges = self._permitted.is_shown, [self._ranges_of(class_index) for class_index in classes]
        sizes = [sum(int(np.count_nonzero(is_shown[start:end])) for start, end in found) for found in ranges]
        limit = _fair_limit(sizes, MAX_COMPARED)
        queries, near = np.nan_to_num(np.ascontiguousarray(embeddings, np.float32)), None
        compared = []
        for class_index, found, size in zip(classes, ranges, sizes, strict=True):
            rows, similarities = self._compare(found, is_shown, queries, limit)
            if size > limit:
                if near is None:
                    near = self._near(is_shown, queries)
                own = near[0][near[1] == class_index]
                own = own[own > rows.max(initial=-1)]  # the others are compared already
                rows = np.concatenate([rows, own])
                similarities = np.concatenate([similarities, self._similarities(own, queries)])
            compared.append(_Compared(rows, similarities))
        return self._describe(self._choose(compared, per_class))

    def picture(self, image_id: str) -> Picture | None:
        """Read the thumbnail of a photograph; None when there is none that may be shown."""
        row = self._lookup.row_of(image_id)
        if row is None or not self._permitted.is_shown[row]:
            return None
        shard, place = self._index.place_of(row)
        names = ["thumbnail_offset", "thumbnail_length", "license_id", "license"]
        offset, length, license_id, license_ = (shard.rows[name][place].as_py() for name in names)
        if not length:
            return None
        content = shard.thumbnails[offset : offset + length].tobytes()
        return Picture(content, deed(license_id) or web_address(license_))

    def _search(self, permitted: _Permitted, embeddings: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        withdrawn, more = permitted.withdrawn, k
        while True:
            neighbors, similarities = self._index.search(embeddings, more)
            gone = np.isin(neighbors, withdrawn) if len(withdrawn) else np.zeros(neighbors.shape, bool)
            num_gone = int(gone.sum(axis=1).max(initial=0))
            if more - num_gone >= k or more >= len(self._index):
                break
            more = min(k + 2 * num_gone, len(self._index))
        if num_gone:
            order = np.argsort(gone, axis=1, kind="stable")  # those that stay, in their order, then the others
            neighbors = np.take_along_axis(np.where(gone, -1, neighbors), order, axis=1)
            similarities = np.take_along_axis(np.where(gone, np.nan, similarities), order, axis=1)
        return neighbors[:, :k], similarities[:, :k].astype(np.float32, copy=False)

    def _ranges_of(self, class_index: int) -> list[tuple[int, int]]:
        """The rows of a class, as ranges of rows of the index: each lies in one shard."""
        starts = self._index.starts.tolist()
        return [(starts[n] + first, starts[n] + after) for n, first, after in self._index.ranges_of(class_index)]

    def _near(self, is_shown: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The permitted rows among the nearest ones of all species, each once, and their classes."""
        rows = np.unique(self._index.search(queries, NEIGHBORS)[0])
        rows = rows[rows >= 0]
        rows = rows[is_shown[rows]]
        return rows, self._index.classes_of(rows)

    def _compare(
        self, ranges: list[tuple[int, int]], is_shown: np.ndarray, queries: np.ndarray, limit: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compare the first permitted rows of these ranges, at most `limit`: rows int64, similarities float32."""
        rows, similarities = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        for start, end in ranges:
            places = np.flatnonzero(is_shown[start:end])[:limit]
            if len(places):
                limit -= len(places)
                rows.append(start + places)
                similarities.append(self._similarities_within(start, places, queries))
        return np.concatenate(rows), np.concatenate(similarities)

    def _similarities_within(self, start: int, places: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """The similarities of the rows start + places, ascending, of one shard."""
        shard, first = self._index.place_of(start)
        num = int(places[-1]) + 1
        if num <= 2 * len(places):  # it costs less to multiply with the others too than to copy these
            products = dot_products(shard.vectors[first : first + num], queries)
            return np.asarray(products.max(axis=0)[places])
        return np.asarray(dot_products(shard.vectors[first + places], queries).max(axis=0))

    def _similarities(self, rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """The similarities of single rows, float32."""
        if not len(rows):
            return np.zeros(0, np.float32)
        places = [self._index.place_of(row) for row in rows]
        vectors = np.stack([shard.vectors[place] for shard, place in places])
        return np.asarray(dot_products(vectors, queries).max(axis=0))

    def _choose(self, compared: Sequence[_Compared], num: int) -> list[list[tuple[int, float]]]:
        """Choose `num` rows per class: the nearest one of each occurrence, and others only where there are too few.

        Returns them with their similarities, best first.
        """
        chosen: dict[int, list[tuple[int, float]]] = {}
        remaining, looked_at = list(range(len(compared))), 4 * num
        while remaining:
            best = [_largest(compared[each].similarities, looked_at) for each in remaining]
            rows = [compared[each].rows[places] for each, places in zip(remaining, best, strict=True)]
            occurrences = iter(self._read(np.concatenate(rows), ["gbif_id"])["gbif_id"])
            undecided = []
            for each, places, found in zip(remaining, best, rows, strict=True):
                is_first = find_firsts(itertools.islice(occurrences, len(found)))
                if sum(is_first) < num and len(found) < len(compared[each].rows):
                    undecided.append(each)
                    continue
                order = choose(is_first, num)
                similarities = compared[each].similarities[places]
                chosen[each] = list(zip(found[order].tolist(), similarities[order].tolist(), strict=True))
            remaining, looked_at = undecided, 8 * looked_at
        return [chosen[each] for each in range(len(compared))]

    def _describe(self, chosen: list[list[tuple[int, float]]]) -> list[list[Illustration]]:
        """Read what the index knows of rows."""
        rows = np.array([row for found in chosen for row, _ in found], np.int64)
        columns = self._read(rows, _COLUMNS)
        columns["occurrence"] = [
            OCCURRENCE_PAGE + gbif_id if is_at_gbif else ""
            for gbif_id, is_at_gbif in zip(columns["gbif_id"], columns["is_at_gbif"], strict=True)
        ]
        columns["has_thumbnail"] = [length > 0 for length in columns["thumbnail_length"]]
        columns["similarity"] = [similarity for found in chosen for _, similarity in found]
        images = map(Illustration, *(columns[name] for name in Illustration._fields))
        return [list(itertools.islice(images, len(found))) for found in chosen]

    def _read(self, rows: np.ndarray, names: Sequence[str]) -> dict[str, list[Any]]:
        """Read the values of columns."""
        shards = self._index.shards
        if len(shards) == 1:
            return _take(shards[0].rows, rows, names)
        number = np.searchsorted(self._index.starts, rows, side="right") - 1
        values: dict[str, list[Any]] = {name: [None] * len(rows) for name in names}
        for shard in np.unique(number).tolist():
            here = np.flatnonzero(number == shard)
            taken = _take(shards[shard].rows, rows[here] - self._index.starts[shard], names)
            for name, found in taken.items():
                for place, value in zip(here.tolist(), found, strict=True):
                    values[name][place] = value
        return values


def _take(table: pa.Table, rows: np.ndarray, names: Sequence[str]) -> dict[str, list[Any]]:
    """Read the values of columns in these rows.

    Arrow takes from a column with one chunk ten times as fast as from one that may have several, and it looks for
    pandas in each array of NumPy.
    """
    places = pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows, np.int64))])
    columns = {name: table[name] for name in names}
    return {
        name: (column.chunk(0) if column.num_chunks == 1 else column).take(places).to_pylist()
        for name, column in columns.items()
    }


def _fair_limit(sizes: Sequence[int], total: int) -> int:
    """Give the largest number of photographs per class with which all classes together have at most `total`.

    >>> _fair_limit([10, 500, 900], 1000), _fair_limit([10, 500], 1000)
    (495, 500)
    """
    remaining, limit = total, max(sizes, default=0)
    for place, size in enumerate(sorted(sizes)):
        share = remaining // (len(sizes) - place)
        if size > share:
            return share
        remaining -= size
    return limit


def _largest(values: np.ndarray, num: int) -> np.ndarray:
    """Give the places of the largest values, the largest first."""
    places = np.argpartition(-values, num)[:num] if num < len(values) else np.arange(len(values))
    return places[np.lexsort((places, -values[places]))]
