"""The shards of an index: folders that each hold a share of the photographs, as `index` writes and engines carry them.

    shards/00000/
        rows.arrow    Arrow IPC, not compressed: schemas.INDEX_ROWS in the order of (class_index, image_id)
        vectors.npy   float16 (N, D): the embeddings in the same order
        search.json   how they are searched, see aitax_ray.index.search_info
        scann/        ScaNN's files, and leaf_*.npy for platforms without ScaNN; few vectors need neither

Rows and vectors are mapped into memory, not read: an index of millions of photographs is open at once, and the system
keeps in memory what is used. The photographs of a species lie together, in one shard or in consecutive ones.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow.fs import LocalFileSystem

from aitax_ray import schemas, workspace
from aitax_ray.errors import EngineError
from aitax_ray.index.build import SearchOptions, build_index
from aitax_ray.index.searcher import VECTORS, Searcher
from aitax_ray.index.update import update_index
from aitax_ray.storage import Storage

ROWS, THUMBNAILS = "rows.arrow", "thumbnails.bin"
BLOCK = 8192  # vectors that are compared at once


def write_shard(
    folder: Path,
    rows: pa.Table,
    vectors: np.ndarray,
    options: SearchOptions | None = None,
    previous: Path | None = None,
) -> None:
    """Write a shard into a local folder: its rows (schemas.INDEX_ROWS), its unit vectors (N, D), and its search.

    The search is made from that of the earlier shard in the local folder `previous`, where that saves time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(folder / ROWS), "wb") as sink, pa.ipc.new_file(sink, schemas.INDEX_ROWS) as writer:
        writer.write_table(rows.combine_chunks())
    np.save(folder / VECTORS, vectors.astype(np.float16, copy=False))
    origin = find_origin(previous, rows, np.load(folder / VECTORS, mmap_mode="r")) if previous else None
    if previous is None or origin is None:
        build_index(folder, options)
    else:
        update_index(previous, folder, origin, options)


def find_origin(previous: Path, rows: pa.Table, vectors: np.ndarray) -> np.ndarray | None:
    """Find the row of each photograph in an earlier shard, -1 where it is new or has another vector: int64 (N,).

    None when the earlier shard cannot be read, or has vectors of another length.
    """
    try:
        earlier = Shard(previous)
    except EngineError:
        return None
    if earlier.vectors.shape[1] != vectors.shape[1]:
        return None
    keys, before = (np.array(table["image_id"].to_pylist(), "S40") for table in (rows, earlier.rows))
    order = np.argsort(before)
    place = order[np.minimum(np.searchsorted(before[order], keys), len(before) - 1)]
    is_same = before[place] == keys
    for start in range(0, len(keys), BLOCK):
        block = slice(start, start + BLOCK)
        is_same[block] &= (earlier.vectors[place[block]] == vectors[block]).all(axis=1)
    return np.where(is_same, place, -1)


class Shard:
    """A shard in a local folder."""

    def __init__(self, folder: Path) -> None:
        """Open the shard. Raises EngineError when a file is missing or broken, or when two do not fit together."""
        self.folder = folder
        try:
            with pa.memory_map(str(folder / ROWS)) as source:
                self.rows = pa.ipc.open_file(source).read_all()
            # No np.memmap: slices of one take 10 times as long to make.
            self.vectors: np.ndarray = np.asarray(np.load(folder / VECTORS, mmap_mode="r"))
        except (OSError, ValueError, pa.ArrowInvalid) as error:
            reason = " ".join(str(error).split())
            raise EngineError(f"the index in {folder} cannot be loaded ({reason}): publish the engine again") from error
        if self.rows.schema.names != schemas.INDEX_ROWS.names or len(self.vectors) != self.rows.num_rows:
            raise EngineError(
                f"{folder} has {self.rows.num_rows:,} rows and {len(self.vectors):,} vectors, or other columns than "
                "this version reads: publish the engine again"
            )

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    @cached_property
    def class_index(self) -> np.ndarray:
        """int32 (N,): the class of each row, ascending."""
        column: np.ndarray = self.rows["class_index"].to_numpy()
        return column

    @cached_property
    def class_starts(self) -> np.ndarray:
        """int64 (C + 1,): the first row of each class up to the last one that has rows, and the number of rows."""
        last = int(self.class_index[-1]) if len(self) else -1
        # Of the same type as the column, which numpy would copy otherwise.
        return np.searchsorted(self.class_index, np.arange(last + 2, dtype=self.class_index.dtype))

    @cached_property
    def thumbnails(self) -> np.ndarray:
        """The bytes of thumbnails.bin, mapped into memory; none when the file does not exist."""
        path = self.folder / THUMBNAILS
        return np.memmap(path, np.uint8, "r") if path.exists() and path.stat().st_size else np.zeros(0, np.uint8)

    @cached_property
    def searcher(self) -> Searcher:
        """The search, loaded when it is first used."""
        return Searcher(self.folder, len(self))


class Index:
    """All shards of an index. A row of the index is the row of its shard plus the rows of the shards before."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.shards = [Shard(folder) for folder in folders]
        self.starts = np.cumsum([0, *map(len, self.shards)])
        self._pool = ThreadPoolExecutor(len(self.shards)) if len(self.shards) > 1 else None

    def __len__(self) -> int:
        return int(self.starts[-1])

    def search(self, embeddings: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest rows of each of N unit vectors (N, D), see Searcher.search."""
        searches = [shard.searcher for shard in self.shards]
        if not searches:
            return np.zeros((len(embeddings), 0), np.int64), np.zeros((len(embeddings), 0), np.float32)
        if self._pool is None:
            return searches[0].search(embeddings, k)
        found = list(self._pool.map(lambda searcher: searcher.search(embeddings, k), searches))
        rows = np.concatenate(
            [np.where(near >= 0, near + start, -1) for (near, _), start in zip(found, self.starts, strict=False)],
            axis=1,
        )
        similarities = np.concatenate([similarity for _, similarity in found], axis=1)
        best = np.argsort(-similarities, axis=1, kind="stable")[:, :k]  # not a number comes last
        return np.take_along_axis(rows, best, axis=1), np.take_along_axis(similarities, best, axis=1)

    def classes_of(self, rows: np.ndarray) -> np.ndarray:
        """Give the class of each row, of any shape: int64, -1 for a row of -1."""
        shard = np.searchsorted(self.starts, np.maximum(rows, 0), side="right") - 1
        classes = np.full(rows.shape, -1, np.int64)
        for number, part in enumerate(self.shards):
            here = (shard == number) & (rows >= 0)
            classes[here] = part.class_index[rows[here] - self.starts[number]]
        return classes

    def ranges_of(self, class_index: int) -> list[tuple[int, int, int]]:
        """Give where the rows of a class lie: (number of the shard, first row in it, row after the last one)."""
        found = []
        for number, shard in enumerate(self.shards):
            bounds = shard.class_starts[class_index : class_index + 2].tolist()
            if len(bounds) == 2 and bounds[0] < bounds[1]:
                found.append((number, *bounds))
        return found

    def place_of(self, row: int) -> tuple[Shard, int]:
        """Give the shard that holds a row, and the row in it."""
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.shards[number], int(row - self.starts[number])

    def count_classes(self, num_classes: int) -> np.ndarray:
        """Count the photographs per class: int64 (K,)."""
        return sum(
            (np.bincount(shard.class_index, minlength=num_classes) for shard in self.shards),
            np.zeros(num_classes, np.int64),
        )


def shard_folders(storage: Storage, place: str) -> list[str]:
    """List the folders of the shards below `place`, in order. Raises EngineError when there is none."""
    found = [path for path in storage.entries(place) if path.rsplit("/", 1)[-1].isdecimal()]
    if not found:
        raise EngineError(f"no index in {storage.address(place)}: run `aitax index`, or copy the engine again")
    return found


def local_copy(storage: Storage, path: str, folder: Path) -> Path:
    """Give the local folder of a shard. A remote one is copied into `folder` first."""
    return Path(storage.full(path)) if isinstance(storage.fs, LocalFileSystem) else storage.fetch(path, folder)


@contextlib.contextmanager
def open_index(storage: Storage, place: str = workspace.SHARDS) -> Iterator[Index]:
    """Open the index below `place`. A remote one is copied to a temporary folder first."""
    with tempfile.TemporaryDirectory(prefix="aitax-index-") as copies:
        paths = shard_folders(storage, place)
        yield Index([local_copy(storage, path, Path(copies) / path.rsplit("/", 1)[-1]) for path in paths])


def read_rows(storage: Storage, columns: Sequence[str] = (), place: str = workspace.SHARDS) -> pa.Table:
    """Read the rows of all shards: schemas.INDEX_ROWS, or some of its columns."""
    tables = []
    for path in shard_folders(storage, place):
        with storage.fs.open_input_file(storage.full(f"{path}/{ROWS}")) as source:
            tables.append(pa.ipc.open_file(source).read_all())
    rows = pa.concat_tables(tables)
    return rows.select(columns) if columns else rows
