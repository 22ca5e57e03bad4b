"""Pairs of files; a storage that breaks between the two stands for a kill at that moment."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aitax_ray.errors import StorageError
from aitax_ray.images import shards
from aitax_ray.schemas import IMAGES, LEDGER, image_id
from aitax_ray.storage import Storage
from tests.blank import blank_row


class BreakingStorage(Storage):
    """Breaks at the n-th table that is written."""

    def __init__(self, root: str, at: int) -> None:
        super().__init__(root)
        self.left = at

    def write_table(self, path: str, *given: Any, **options: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise StorageError("network gone")
        super().write_table(path, *given, **options)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def photographs(urls: str) -> pa.Table:
    """A photograph for each letter."""
    rows = [blank_row(IMAGES, image_id=image_id(url), url=url, width=1, height=2, jpeg=b"jpeg" * 99) for url in urls]
    return pa.Table.from_pylist(rows, IMAGES)


def fates(ok: str, failed: str = "", retried: str = "") -> pa.Table:
    """A row for each letter."""
    letters = [("retried", url) for url in retried] + [("ok", url) for url in ok] + [("failed", url) for url in failed]
    rows = [
        blank_row(LEDGER, image_id=image_id(url), url=url, status=status, reason="" if status == "ok" else "timeout")
        for status, url in letters
    ]
    return pa.Table.from_pylist(rows, LEDGER)


def store(storage: Storage, name: str, ok: str = "", failed: str = "", retried: str = "") -> None:
    shards.write_shard(storage, name, photographs(ok), fates(ok, failed, retried), 512)


def stored(storage: Storage) -> dict[str, str]:
    """What each file of photographs holds."""
    return {
        file.path.removeprefix("images/"): "".join(storage.read_table(file.path)["url"].to_pylist())
        for file in storage.files("images", ".parquet")
    }


def told(storage: Storage) -> set[tuple[str, ...]]:
    rows = storage.read_table("ledger", schema=LEDGER).to_pylist()
    return {(row["url"], row["status"], row["reason"], row["shard"]) for row in rows}


def ids(urls: str) -> list[str]:
    return [image_id(url) for url in urls]


def entries(storage: Storage) -> list[str]:
    return [path for folder in ("images", "ledger") for path in storage.entries(folder)]


def test_photographs_and_their_fates_are_a_pair_of_files_of_one_name(storage: Storage) -> None:
    store(storage, "r-w-0", ok="ab", failed="c", retried="ac")
    assert stored(storage) == {"r-w-0.parquet": "ab"}
    assert storage.files("ledger")[0].path == "ledger/r-w-0.parquet"
    assert told(storage) == {
        ("a", "ok", "", "r-w-0.parquet"),
        ("b", "ok", "", "r-w-0.parquet"),
        ("c", "failed", "timeout", ""),
        ("a", "retried", "timeout", ""),
        ("c", "retried", "timeout", ""),
    }
    assert storage.read_table("images").equals(photographs("ab"))
    assert storage.read_table("ledger").schema.equals(LEDGER)


def test_fates_without_photographs_have_no_file_of_photographs(storage: Storage) -> None:
    store(storage, "r-w-0", failed="ab")
    assert entries(storage) == ["ledger/r-w-0.parquet"]
    assert told(storage) == {("a", "failed", "timeout", ""), ("b", "failed", "timeout", "")}


def test_photographs_are_compressed_already_and_nothing_else_is(storage: Storage) -> None:
    store(storage, "r-w-0", ok="ab")
    group = pq.ParquetFile(storage.full("images/r-w-0.parquet")).metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    assert {column.path_in_schema: column.compression for column in columns} == {
        name: "UNCOMPRESSED" if name == "jpeg" else "ZSTD" for name in IMAGES.names
    }


@pytest.mark.parametrize(("at", "left"), [(1, {}), (2, {"r-w-1.parquet": "ab"})])
def test_photographs_come_before_their_fates_so_that_a_kill_leaves_none_that_is_named(
    storage: Storage, at: int, left: dict[str, str]
) -> None:
    store(storage, "r-w-0", ok="z")
    with pytest.raises(StorageError, match="network gone"):
        store(BreakingStorage(storage.root, at), "r-w-1", ok="ab", failed="c")
    assert stored(storage) == {"r-w-0.parquet": "z"} | left
    assert told(storage) == {("z", "ok", "", "r-w-0.parquet")}
    shards.delete_unfinished_files(storage)
    assert stored(storage) == {"r-w-0.parquet": "z"} | left


def test_the_size_of_the_photographs_is_told_by_any_of_the_ledgers_files(storage: Storage) -> None:
    assert shards.stored_image_size(storage) is None
    shards.write_shard(storage, "r-w-0", photographs("ab"), fates("ab"), 384)
    assert shards.stored_image_size(storage) == 384
    shards.drop_photographs(storage, "r-w-0.parquet", ids("a"))
    assert shards.stored_image_size(storage) == 384
    storage.delete("ledger")
    assert shards.stored_image_size(storage) == 384
    storage.delete("images")
    shards.write_fates(storage, "r2-0", fates("", failed="c"), 96)
    assert shards.stored_image_size(storage) == 96


@pytest.mark.parametrize(
    "path",
    [
        "images/.r-w-0.parquet.0123abcd",
        "ledger/.r-w-0.parquet.0123abcd",
        "ledger/.todo/000000.parquet",
        "ledger/.todo/.000001.parquet.0123abcd",
    ],
)
def test_what_a_crash_left_is_deleted(storage: Storage, path: str) -> None:
    store(storage, "r-w-0", ok="a")
    before = entries(storage)
    storage.write_bytes(path, b"half")
    shards.delete_unfinished_files(storage)
    assert entries(storage) == before
    assert told(storage) == {("a", "ok", "", "r-w-0.parquet")}


@pytest.mark.parametrize(
    "path", ["images/.started.json", "images/report.json", "ledger/r-w-9.parquet", "images/r-w-9.parquet"]
)
def test_what_is_no_leftover_stays(storage: Storage, path: str) -> None:
    storage.write_bytes(path, b"{}")
    shards.delete_unfinished_files(storage)
    assert storage.read_bytes(path) == b"{}"


def test_dropping_leftovers_where_nothing_is_does_nothing(storage: Storage) -> None:
    shards.delete_unfinished_files(storage)
    assert storage.entries("") == []


def test_a_file_is_rewritten_without_some_of_its_photographs(storage: Storage) -> None:
    store(storage, "r-w-0", ok="abcd")
    store(storage, "r-w-1", ok="ae")
    shards.drop_photographs(storage, "r-w-0.parquet", ids("axc"))
    assert stored(storage) == {"r-w-0.parquet": "bd", "r-w-1.parquet": "ae"}
    assert storage.read_table("images/r-w-0.parquet").equals(photographs("bd"))


def test_a_file_of_which_no_photograph_is_left_is_deleted(storage: Storage) -> None:
    store(storage, "r-w-0", ok="ab")
    store(storage, "r-w-1", ok="c")
    shards.drop_photographs(storage, "r-w-0.parquet", ids("ba"))
    assert stored(storage) == {"r-w-1.parquet": "c"}
    shards.drop_photographs(storage, "r-w-0.parquet", ids("ba"))


def test_a_rewrite_that_fails_leaves_all_photographs(storage: Storage) -> None:
    store(storage, "r-w-0", ok="abcd")
    with pytest.raises(StorageError, match="network gone"):
        shards.drop_photographs(BreakingStorage(storage.root, 1), "r-w-0.parquet", ids("a"))
    assert stored(storage) == {"r-w-0.parquet": "abcd"}


def age(storage: Storage, name: str, hours: float) -> None:
    path = Path(storage.full(f"ledger/{name}.parquet"))
    at = path.stat().st_mtime - hours * 3600
    os.utime(path, (at, at))


def test_stored_lately_is_what_this_run_wrote_not_long_before_its_last_file(storage: Storage) -> None:
    store(storage, "r1-w-0", ok="a", failed="b")
    store(storage, "r2-w-0", ok="c")
    store(storage, "r2-w-1", ok="d", failed="e", retried="e")
    store(storage, "r2-v-0", failed="f")
    store(storage, "r3-w-0", ok="g")
    storage.write_bytes("ledger/.r2-w-2.parquet.0123abcd", b"half")
    storage.write_bytes("ledger/.todo/r2-000000.parquet", b"no ledger")
    age(storage, "r2-w-0", hours=30)
    for name in ("r2-w-1", "r2-v-0"):  # however long ago the run was
        age(storage, name, hours=20)
    assert shards.stored_lately(storage, "r2") == set(ids("def"))
    assert shards.stored_lately(storage, "r1") == set(ids("ab"))
    assert shards.stored_lately(storage, "r4") == frozenset()


def test_nothing_was_stored_lately_where_nothing_is(storage: Storage) -> None:
    assert shards.stored_lately(storage, "r1") == frozenset()


def test_where_storage_tells_no_times_all_of_the_run_was_stored_lately(tmp_path: Path) -> None:
    storage = Storage(f"memory://{tmp_path.name}/{os.getpid()}/root")
    store(storage, "r1-w-0", ok="ab")
    assert shards.stored_lately(storage, "r1") == set(ids("ab"))
