"""The batches of a worker: from memory if all decoded photographs fit into it, else from a stream of Ray Data.

From memory, the order of the photographs depends only on the seed. A stream is shuffled within a few batches, and its
order also depends on the order in which Ray Data delivers the photographs.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

Columns = dict[str, Any]  # arrays, and lists of buffers
Collate = Callable[[Columns], Any]
WINDOW = 8  # batches of the stream that are shuffled together
PREFETCH = 4  # batches that are prepared while the network trains on another one


def split_steps(num_rows: int, batch_size: int, world: int = 1) -> tuple[int, bool]:
    """Count the steps of an epoch with `world` workers. The second value is whether the last, smaller batch is dropped.

    It is dropped if it has less than one photograph per worker, or less than half of `batch_size` photographs: each of
    them would have too much weight. Each epoch drops different photographs.
    """
    rest = num_rows % batch_size
    drop_last = rest < world or (num_rows >= batch_size and rest < batch_size / 2)
    return num_rows // batch_size + (not drop_last), drop_last


def draw_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """Derive the seed of an epoch, for all workers or for one."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}/{rank}".encode()).digest()[:8], "big") >> 1


class FromMemory:
    """Batches from memory: each worker holds all rows. `batch_size` counts the photographs of all workers."""

    def __init__(self, rows: pa.Table, batch_size: int, rank: int, world: int, seed: int) -> None:
        self._rows = rows.sort_by("image_id").combine_chunks()
        self._batch_size, self._rank, self._world, self._seed = max(batch_size, world), rank, world, seed
        self.num_steps, _ = split_steps(rows.num_rows, self._batch_size, world)

    def training(self, epoch: int, collate: Collate) -> Iterator[Any]:
        """Yield the shuffled batches of an epoch: this worker's equal part of each step."""
        order = np.random.default_rng(draw_seed(self._seed, epoch)).permutation(self._rows.num_rows)
        steps = (order[step * self._batch_size :][: self._batch_size] for step in range(self.num_steps))
        # Each worker gets the same number of photographs. Otherwise some would wait for a step that others do not have.
        parts = (step[: len(step) // self._world * self._world][self._rank :: self._world] for step in steps)
        return _prefetch(collate, map(self._take, parts))

    def validation(self, batch_size: int, collate: Collate) -> Iterator[Any]:
        """Yield this worker's share of the rows, in batches of `batch_size`."""
        mine = np.arange(self._rank, self._rows.num_rows, self._world)
        return _prefetch(collate, (self._take(mine[at : at + batch_size]) for at in range(0, len(mine), batch_size)))

    def _take(self, places: np.ndarray) -> Columns:
        return to_columns(self._rows.take(pa.array(places)))


class FromStream:
    """Batches from Ray Data: this worker's shard of `num_rows` rows in all workers. Rows are in the order of a hash."""

    def __init__(self, shard: Any, num_rows: int, batch_size: int, rank: int, world: int, seed: int) -> None:
        self._shard, self._rank, self._world, self._seed = shard, rank, world, seed
        self._batch_size = max(1, batch_size // world)
        self.num_steps, self._drop_last = split_steps(num_rows // world, self._batch_size)

    def training(self, epoch: int, collate: Collate) -> Iterator[Any]:
        """Yield the batches of an epoch, shuffled within WINDOW batches.

        Ray Data's own local shuffle needs four times the memory of the rows that it shuffles.
        """
        return _prefetch(collate, map(to_columns, self._shuffled(epoch)))

    def _shuffled(self, epoch: int) -> Iterator[pa.Table]:
        rng = np.random.default_rng(draw_seed(self._seed, epoch, self._rank))
        for window in self._shard.iter_batches(batch_format="pyarrow", batch_size=WINDOW * self._batch_size):
            order = rng.permutation(window.num_rows)
            for at in range(0, window.num_rows, self._batch_size):
                places = order[at : at + self._batch_size]
                if len(places) == self._batch_size or not self._drop_last:
                    yield window.take(pa.array(places))

    def validation(self, batch_size: int, collate: Collate) -> Iterator[Any]:
        """Yield this worker's share of the rows, chosen by key. Each worker reads all rows."""
        batches = self._shard.iter_batches(batch_format="pyarrow", batch_size=batch_size)
        return _prefetch(collate, map(to_columns, filter(len, map(self._mine, batches))))

    def _mine(self, batch: pa.Table) -> pa.Table:
        keys = batch["image_id"].to_pylist()
        return batch.filter(pa.array([int(key[:8], 16) % self._world == self._rank for key in keys], pa.bool_()))


def to_columns(rows: pa.Table) -> Columns:
    """Convert the columns to arrays; binary columns to lists of buffers, without a copy."""
    return {
        name: [value.as_buffer() for value in rows[name]] if pa.types.is_large_binary(rows[name].type)
        else rows[name].to_numpy()
        for name in rows.column_names
    }  # fmt: skip


def read_all(shard: Any) -> pa.Table:
    """Read all of a Ray Data iterator into one table."""
    return pa.concat_tables(shard.iter_batches(batch_format="pyarrow", batch_size=None))


def _prefetch(collate: Collate, batches: Iterator[Columns]) -> Iterator[Any]:
    """Collate the next batches in other threads."""
    with ThreadPoolExecutor(2) as pool:
        prepared: deque[Future[Any]] = deque()
        for batch in batches:
            prepared.append(pool.submit(collate, batch))
            if len(prepared) > PREFETCH:
                yield prepared.popleft().result()
        while prepared:
            yield prepared.popleft().result()
