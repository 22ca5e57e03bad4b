"""S3 as a storage: few requests, retries, complete files. The server is moto's, on loopback (tests/s3.py)."""

import os
import pickle
from pathlib import Path
from typing import Any

import cloudpickle
import pyarrow as pa
import pytest

from aitax_ray import s3 as s3_module
from aitax_ray import storage as storage_module
from aitax_ray.engine.info import FORMAT_VERSION
from aitax_ray.engine.purge import purge_engine
from aitax_ray.errors import StorageError
from aitax_ray.images.inventory import Changes, move_damaged_away
from aitax_ray.storage import Storage
from tests.s3 import BUCKET, S3, share

TABLE = pa.table({"key": ["a", "b", "c"], "number": [1, 2, 3]})


@pytest.fixture
def bucket(s3: S3, tmp_path: Path) -> Storage:
    """A root on S3."""
    return Storage(f"s3://{BUCKET}/{tmp_path.name}")


def kinds(s3: S3) -> str:
    """The requests since the last call."""
    found = " ".join(kind for kind, _, _ in s3.requests)
    s3.requests.clear()
    return found


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), MemoryError()])
def test_a_failing_write_leaves_the_old_object(bucket: Storage, error: BaseException) -> None:
    """Arrow closes, and so publishes, what has been written when an exception comes."""

    def tables() -> Any:
        yield TABLE
        raise error

    def change(rows: pa.Table) -> pa.Table:
        raise error

    bucket.write_table("t/a.parquet", TABLE)
    with pytest.raises(StorageError if isinstance(error, OSError) else type(error)):
        bucket.write_tables("t/a.parquet", tables(), TABLE.schema)
    with pytest.raises(StorageError if isinstance(error, OSError) else type(error)):
        bucket.rewrite_table("t/a.parquet", change)
    assert bucket.read_table("t").equals(TABLE)


def test_small_files_take_few_requests_however_deep_they_lie(s3: S3, bucket: Storage) -> None:
    bucket.write_bytes("a/b/c/d", b"1")
    assert kinds(s3) == "PUT"
    bucket.write_table("a/t.parquet", TABLE)
    assert kinds(s3) == "PUT"
    bucket.read_bytes("a/b/c/d")
    assert kinds(s3) == "HEAD GET"
    bucket.read_table("a/t.parquet")
    assert kinds(s3) == "HEAD GET GET"
    bucket.copy("a/b/c/d", "a/e")
    assert kinds(s3) == "PUT"  # the store copies
    for number in range(30):
        bucket.write_bytes(f"many/{number}", b"1")
    kinds(s3)
    assert len(bucket.files("many")) == len(bucket.entries("many")) == 30
    assert kinds(s3) == "LIST LIST"


def test_an_object_too_large_for_s3_to_copy_goes_through_this_machine(
    s3: S3, bucket: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.write_bytes("a", b"123")
    bucket.copy("a", "b")
    assert kinds(s3) == "PUT PUT"

    def refuse(*_: str) -> None:
        raise OSError("The specified copy source is larger than the maximum allowable size for a copy source")

    monkeypatch.setattr(s3_module.S3Handler, "copy_file", refuse)
    with pytest.raises(StorageError, match="larger than the maximum"):
        bucket.copy("a", "c")
    monkeypatch.setattr(storage_module, "MAX_COPY_BYTES", 2)
    bucket.copy("a", "c")
    assert bucket.read_bytes("b") == bucket.read_bytes("c") == b"123"


def test_a_file_of_several_parts_is_not_there_before_its_last_part(
    s3: S3, bucket: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(12_000_000)
    bucket.write_bytes("big", content)
    assert kinds(s3) == "POST PUT PUT POST"
    assert bucket.read_bytes("big") == content
    assert kinds(s3) == "HEAD GET"
    monkeypatch.setattr(s3_module, "MAX_ATTEMPTS", 1)
    s3.choose = lambda number: "error" if len(s3.requests) >= 2 else ""
    with pytest.raises(StorageError, match=r"new cannot be written"):
        Storage(bucket.root).write_bytes("new", content)
    s3.choose = lambda number: ""
    assert not bucket.exists("new")


def test_a_part_that_cannot_be_sent_leaves_the_old_object(
    s3: S3, bucket: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.write_bytes("big", b"old")
    monkeypatch.setattr(storage_module, "SENT_BYTES", 11_000_000)
    content = os.urandom(16_000_000)
    with monkeypatch.context() as patch:
        patch.setattr(s3_module, "MAX_ATTEMPTS", 0)
        hasty = Storage(bucket.root)
    for failing in (2, 3):  # the first request starts the object
        kinds(s3)
        s3.choose = lambda number, failing=failing: "error" if len(s3.requests) == failing - 1 else ""  # type: ignore[misc]
        with pytest.raises(StorageError, match=r"big cannot be written"):
            hasty.write_bytes("big", content)
        s3.choose = lambda number: ""
        assert bucket.read_bytes("big") == b"old"
    bucket.write_bytes("big", content)
    assert bucket.read_bytes("big") == content


def test_requests_that_fail_are_sent_again_also_from_other_processes(s3: S3, bucket: Storage, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(12_000_000))
    s3.choose = share(7, 20)
    there = pickle.loads(cloudpickle.dumps(bucket))
    for number in range(4):
        there.write_table(f"t/{number}.parquet", TABLE)
    there.upload(tmp_path, "up")
    assert there.fetch("up", tmp_path / "down").joinpath("big").read_bytes() == (tmp_path / "big").read_bytes()
    assert there.read_table("t").num_rows == 4 * TABLE.num_rows
    assert {fault for _, _, fault in s3.requests} == {"", "throttle", "error", "reset", "cut"}


@pytest.mark.parametrize("fault", ["throttle", "error", "reset"])
def test_an_outage_ends_with_the_name_of_the_storage_and_what_to_do(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(s3_module, "MAX_ATTEMPTS", 2)
    s3.choose = lambda number: fault
    storage = Storage(f"s3://{BUCKET}/{tmp_path.name}")
    (tmp_path / "file").write_bytes(b"1")
    for work in (
        lambda: storage.write_bytes("a", b"1"),
        lambda: storage.read_bytes("a"),
        lambda: storage.read_table("a.parquet"),
        lambda: storage.files("a"),
        lambda: storage.exists("a"),
        lambda: storage.upload(tmp_path, "a"),
        lambda: storage.copy("a", "b"),
        lambda: storage.fetch("a", tmp_path / "down"),
        lambda: storage.delete("a"),
    ):
        with pytest.raises(StorageError, match=f"s3://{BUCKET}/.*check that it is up .* the same command goes on"):
            work()


@pytest.mark.parametrize(("root", "remedy"), [("s3://no-such-bucket/a", "create the bucket first")])
def test_an_absent_bucket_is_named(s3: S3, root: str, remedy: str) -> None:
    with pytest.raises(StorageError, match=remedy):
        Storage(root).write_bytes("a", b"1")


def test_an_engine_or_file_that_an_outage_hides_is_not_taken_for_damaged(
    s3: S3, bucket: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 is back for the request that would delete or move it."""
    bucket.write_json("engines/a/engine.json", {"format_version": FORMAT_VERSION, "files": {}})
    bucket.write_table("images/a.parquet", TABLE)
    with monkeypatch.context() as patch:
        patch.setattr(s3_module, "MAX_ATTEMPTS", 0)
        hasty = Storage(bucket.root)
    changes = Changes(missing=[], changed=[], new=["images/a.parquet"])
    for work in (lambda: purge_engine(hasty, "engines/a", ["key"]), lambda: move_damaged_away(hasty, changes)):
        kinds(s3)
        s3.choose = lambda number: "" if s3.requests else "error"
        with pytest.raises(StorageError, match=f"s3://{BUCKET}/.* cannot be read: .*the same command goes on"):
            work()
    s3.choose = lambda number: ""
    assert bucket.exists("engines/a/engine.json")
    assert bucket.exists("images/a.parquet")
