"""Rows of single tables; the root as a whole is in test_purge.py."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aitax_ray import schemas, workspace
from aitax_ray.engine.purge_stages import Withdrawn, drop_rows, purge_stages
from aitax_ray.index.added import TABLES
from aitax_ray.storage import Storage
from aitax_ray.takedowns import Request, now
from aitax_ray.workspace import Workspace
from tests.blank import blank_row


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage(str(tmp_path))
    for name, keys in (("a", "xyx"), ("b", "x"), ("c", "z")):
        table = pa.table({"image_id": list(keys), "jpeg": [key.encode() * 9 for key in keys]})
        storage.write_table(f"t/{name}.parquet", table.replace_schema_metadata({b"image_size": b"64"}), plain=["jpeg"])
    storage.write_table("t/other.parquet", pa.table({"url": ["x"]}))
    return storage


def test_rows_are_dropped_and_files_without_rows_deleted(storage: Storage) -> None:
    assert drop_rows(storage, "t", ["x"]) == ["t/a.parquet", "t/b.parquet"]
    assert storage.read_table("t/a.parquet")["image_id"].to_pylist() == ["y"]
    assert [file.path for file in storage.files("t")] == ["t/a.parquet", "t/c.parquet", "t/other.parquet"]
    assert drop_rows(storage, "t", ["x"]) == []


def test_tables_that_must_be_there_stay_without_rows(storage: Storage) -> None:
    drop_rows(storage, "t", ["x"], keep_empty=True)
    assert storage.read_table("t/b.parquet").num_rows == 0


def test_the_schema_its_metadata_and_the_storage_of_jpegs_stay(storage: Storage) -> None:
    drop_rows(storage, "t", ["x"])
    metadata = pq.read_metadata(storage.full("t/a.parquet"))
    assert pq.read_schema(storage.full("t/a.parquet")).metadata[b"image_size"] == b"64"
    assert metadata.row_group(0).column(1).compression == "UNCOMPRESSED"


def test_files_without_such_rows_are_not_touched(storage: Storage, tmp_path: Path) -> None:
    before = (tmp_path / "t/c.parquet").stat().st_mtime_ns
    drop_rows(storage, "t", ["x"])
    assert (tmp_path / "t/c.parquet").stat().st_mtime_ns == before


def test_the_photographs_of_all_requests_are_gathered() -> None:
    requests = [
        Request(kind="creator", value="a", requested=now(), image_ids=["1", "2"], urls=["u"], gbif_ids=["g"]),
        Request(kind="image", value="b", requested=now(), image_ids=["2"], gbif_ids=["h"]),
    ]
    withdrawn = Withdrawn.of(requests)
    assert withdrawn == Withdrawn(frozenset("12"), frozenset("u"), frozenset("gh"))


def test_what_killed_runs_had_begun_to_write_is_deleted_and_not_what_a_run_is_writing(tmp_path: Path) -> None:
    names = {
        name: tmp_path / "images" / name for name in (f".a.parquet.{'0' * 32}", f".b.parquet.{'1' * 32}", ".other")
    }
    (tmp_path / "images").mkdir()
    for number, path in enumerate(names.values()):
        path.write_bytes(b"x")
        if number != 1:
            os.utime(path, (0, 0))
    purge_stages(Workspace(str(tmp_path)), Withdrawn(frozenset({"1"}), frozenset(), frozenset()))
    assert [path.exists() for path in names.values()] == [False, True, True]


def test_a_root_where_no_stage_has_run_is_no_error(tmp_path: Path) -> None:
    withdrawn = Withdrawn(frozenset({"1"}), frozenset({"u"}), frozenset({"g"}))
    purge_stages(Workspace(str(tmp_path)), withdrawn)
    assert list(tmp_path.iterdir()) == []


def test_what_came_from_other_roots_is_deleted_too(storage: Storage, tmp_path: Path) -> None:
    def table(schema: pa.Schema, *keys: str) -> pa.Table:
        rows = [
            blank_row(schema, **{n: f"{n[0]}{key}" for n in ("image_id", "gbif_id") if n in schema.names})
            for key in keys
        ]
        return pa.Table.from_pylist(rows, schema)

    storage.write_table(TABLES[workspace.SPLIT], table(schemas.SPLIT, "1", "2"))
    storage.write_table(TABLES[workspace.MEDIA], table(schemas.MEDIA, "1", "2"))
    storage.write_table(TABLES[workspace.OCCURRENCES], table(schemas.OCCURRENCES, "1", "2"))
    for keys in (["i1"], ["i1", "i2"]):
        purge_stages(
            Workspace(str(tmp_path)), Withdrawn(frozenset(keys), frozenset(), frozenset(f"g{k[1]}" for k in keys))
        )
        left = ["2"] if len(keys) == 1 else []
        assert storage.read_table(TABLES[workspace.SPLIT])["image_id"].to_pylist() == [f"i{key}" for key in left]
        assert storage.read_table(TABLES[workspace.MEDIA])["image_id"].to_pylist() == [f"i{key}" for key in left]
        assert storage.read_table(TABLES[workspace.OCCURRENCES])["gbif_id"].to_pylist() == [f"g{key}" for key in left]
