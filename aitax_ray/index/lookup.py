"""Finds the row of a photograph in an index by its image_id, with 12 bytes per photograph and no Python object."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from aitax_ray.errors import EngineError

if TYPE_CHECKING:
    from aitax_ray.index.shards import Index

LENGTH = 40  # hex digits of a sha1
PREFIX = 16  # digits that are sorted: 8 bytes. Two of 100 million photographs share them with a chance of 0.0003.
BLOCK = 1 << 18  # keys that are converted at once

# The value of a hex digit, by its ASCII code. Other bytes have the value 255.
_VALUES = np.full(256, 255, np.uint8)
_VALUES[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


class Lookup:
    """The rows of an index in the order of the first 8 bytes of their image_id."""

    def __init__(self, index: "Index") -> None:
        """Read the keys. Raises EngineError when one is not 40 hex digits."""
        self._index = index
        parts = [part for shard in index.shards for chunk in shard.rows["image_id"].chunks for part in _prefixes(chunk)]
        prefixes = np.concatenate(parts) if parts else np.zeros(0, np.uint64)
        order = np.argsort(prefixes, kind="stable")
        self._prefixes, self._rows = prefixes[order], order.astype(np.min_scalar_type(max(len(order), 1 << 16)))

    def row_of(self, image_id: str) -> int | None:
        """Find the row of a photograph; None when the index does not hold it."""
        try:
            prefix = np.uint64(int(image_id[:PREFIX], 16))
        except ValueError:
            return None
        first, after = np.searchsorted(self._prefixes, prefix), np.searchsorted(self._prefixes, prefix, side="right")
        for row in self._rows[first:after].tolist():
            shard, place = self._index.place_of(row)
            if shard.rows["image_id"][place].as_py() == image_id:
                return int(row)
        return None

    def rows_of(self, image_ids: Iterable[str]) -> np.ndarray:
        """Find the rows of those photographs that the index holds: int64, ascending."""
        found = {row for image_id in image_ids if (row := self.row_of(image_id)) is not None}
        return np.array(sorted(found), np.int64)


def _prefixes(keys: pa.StringArray) -> Iterator[np.ndarray]:
    """Give the first 8 bytes of each key as uint64, block by block."""
    for start in range(0, len(keys), BLOCK):
        block = keys[start : start + BLOCK]
        _, offsets, characters = block.buffers()
        ends = np.frombuffer(offsets, np.int32)[block.offset : block.offset + len(block) + 1]
        if (np.diff(ends) != LENGTH).any():
            raise EngineError("the index has an image_id that is not 40 hex digits: publish the engine again")
        text = np.frombuffer(characters, np.uint8)[ends[0] : ends[-1]].reshape(-1, LENGTH)
        values = _VALUES[text[:, :PREFIX]]
        if (values > 15).any():
            raise EngineError("the index has an image_id that is not 40 hex digits: publish the engine again")
        packed = np.ascontiguousarray(values[:, ::2] << 4 | values[:, 1::2])
        yield packed.view(">u8").ravel().astype(np.uint64)
