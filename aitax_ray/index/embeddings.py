"""Reads what was computed of photographs for an index, and deletes what no longer holds.

index/embeddings/<digest>/*.parquet    schemas.EMBEDDINGS, one row per photograph, in any order
index/thumbnails/webp-<size>/*.parquet schemas.THUMBNAILS, likewise
"""

import hashlib
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from aitax_ray import schemas, workspace
from aitax_ray.storage import Storage
from aitax_ray.workspace import Workspace

READERS = 16  # files of photographs whose keys are read at the same time


class StoredPhotographs:
    """The keys of all photographs in images/, sorted, and the hashes of their JPEGs: 56 bytes per photograph."""

    def __init__(self, storage: Storage) -> None:
        paths = [file.path for file in storage.files(workspace.IMAGES, ".parquet")]
        names = ["image_id", "jpeg_sha256"]
        with ThreadPoolExecutor(READERS) as pool:
            tables = pool.map(lambda path: storage.read_table(path, names, schemas.IMAGES), paths)
            parts = [(keys_of(table), hashes_of(table)) for table in tables]
        image_ids = np.concatenate([np.zeros(0, "S40"), *(keys for keys, _ in parts)])
        hashes = np.concatenate([np.zeros(0, "S16"), *(found for _, found in parts)])
        self.image_ids, first = np.unique(image_ids, return_index=True)
        self._hashes = hashes[first]

    def find_unchanged(self, rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Find the photographs that rows of image_id and jpeg_sha256 were made from.

        Returns their places in `image_ids`, and for each whether it is stored with the same JPEG. Photographs that an
        earlier version stored have no hash, and count as unchanged.
        """
        keys = keys_of(rows)
        place = np.searchsorted(self.image_ids, keys)
        is_same = place < len(self.image_ids)
        found = place[is_same]
        is_same[is_same] = (self.image_ids[found] == keys[is_same]) & (
            (self._hashes[found] == b"") | (self._hashes[found] == hashes_of(rows)[is_same])
        )
        return place, is_same


@dataclass(frozen=True)
class PhotographRows:
    """Rows that were computed of photographs, in files of a workspace. It can be sent to other processes."""

    storage: Storage
    folder: str
    schema: pa.Schema
    """It has image_id, and jpeg_sha256 of the JPEG that the row was computed of."""

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows, file by file, or some of their columns."""
        for file in self.storage.files(self.folder, ".parquet"):
            yield self.storage.read_table(file.path, columns)

    def add(self, rows: pa.Table) -> None:
        """Write rows to a new file."""
        self.storage.write_table(f"{self.folder}/part-{uuid.uuid4().hex}.parquet", rows.cast(self.schema))

    def clean(self, photographs: StoredPhotographs) -> np.ndarray:
        """Delete what killed runs left: files that they had begun to write, and second rows of a photograph.

        Delete also the rows of photographs that are no longer stored, or with another JPEG. Returns which of the
        photographs have a row: bool (N,).
        """
        for path in self.storage.entries(self.folder):
            if path.rsplit("/", 1)[-1].startswith("."):
                self.storage.delete(path)
        has_row = np.zeros(len(photographs.image_ids), bool)
        for file in self.storage.files(self.folder, ".parquet"):
            rows = self.storage.read_table(file.path, ["image_id", "jpeg_sha256"])
            place, is_unchanged = photographs.find_unchanged(rows)
            candidates = np.flatnonzero(is_unchanged)
            candidates = candidates[~has_row[place[candidates]]]
            _, first = np.unique(place[candidates], return_index=True)
            is_kept = np.zeros(len(place), bool)
            is_kept[candidates[first]] = True
            has_row[place[is_kept]] = True
            if not is_kept.any():
                self.storage.delete(file.path)
            elif not is_kept.all():
                self.storage.write_table(file.path, self.storage.read_table(file.path).filter(pa.array(is_kept)))
        return has_row


@dataclass(frozen=True)
class Embeddings(PhotographRows):
    """The embeddings of one model in a workspace."""

    schema: pa.Schema = schemas.EMBEDDINGS


def source_suffix(source: Workspace) -> str:
    """Name another root in the name of a folder: a dash and 8 hex digits."""
    return f"-{hashlib.sha256(source.storage.address().encode()).hexdigest()[:8]}"


def keys_of(rows: pa.Table) -> np.ndarray:
    """Give the image_id of rows: S40 (N,)."""
    return np.array(rows["image_id"].to_pylist(), "S40")


def hashes_of(rows: pa.Table) -> np.ndarray:
    """Give the first 64 bits of the hash of the JPEG of rows, in hex digits: S16 (N,), empty where unknown."""
    return np.array(rows["jpeg_sha256"].fill_null("").to_pylist(), "S16")
