import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aitax_ray import schemas
from aitax_ray.errors import EngineError
from aitax_ray.index.lookup import Lookup
from aitax_ray.index.shards import Index, write_shard
from tests.blank import blank_row

NUM = 40


def make_index(folder: Path, image_ids: list[str], num_shards: int) -> Index:
    folders = [folder / f"{number:05}" for number in range(num_shards)]
    for path, part in zip(folders, np.array_split(image_ids, num_shards), strict=True):
        rows = [blank_row(schemas.INDEX_ROWS, image_id=str(image_id)) for image_id in part]
        write_shard(path, pa.Table.from_pylist(rows, schemas.INDEX_ROWS), np.ones((len(part), 2)))
    return Index(folders)


@pytest.mark.parametrize("num_shards", [1, 3])
def test_each_photograph_is_found_at_its_row_and_others_are_not(tmp_path: Path, num_shards: int) -> None:
    image_ids = [schemas.image_id(str(number)) for number in range(NUM)]
    lookup = Lookup(make_index(tmp_path, image_ids, num_shards))
    assert [lookup.row_of(image_id) for image_id in image_ids] == list(range(NUM))
    for unknown in (schemas.image_id("other"), image_ids[0][:39] + "x", image_ids[0][:16], "", "é" * 40):
        assert lookup.row_of(unknown) is None
    assert lookup.rows_of([image_ids[7], "", image_ids[2], image_ids[7]]).tolist() == [2, 7]


def test_photographs_whose_keys_begin_alike_are_told_apart(tmp_path: Path) -> None:
    image_ids = [f"{1:016x}{number:024x}" for number in range(3)]
    lookup = Lookup(make_index(tmp_path, image_ids, 1))
    assert [lookup.row_of(image_id) for image_id in image_ids] == [0, 1, 2]
    assert lookup.row_of(f"{1:016x}{9:024x}") is None


@pytest.mark.parametrize("wrong", ["abc", "g" * 40])
def test_a_key_that_is_no_sha1_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(EngineError, match="not 40 hex digits: publish the engine again"):
        Lookup(make_index(tmp_path, ["a" * 40, wrong], 1))


def test_a_photograph_takes_12_bytes_of_memory(tmp_path: Path) -> None:
    num = 30_000
    index = make_index(tmp_path, [f"{number:040x}" for number in range(num)], 1)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        lookup = Lookup(index)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < 13 * num
    assert lookup.row_of(f"{num - 1:040x}") == num - 1
