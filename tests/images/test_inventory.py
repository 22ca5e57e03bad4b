"""Which files changed since they were recorded, and which of them are damaged."""

import hashlib
import os
from pathlib import Path

import pyarrow as pa
import pytest

from aitax_ray.errors import StorageError
from aitax_ray.images import inventory, shards
from aitax_ray.images.inventory import find_changes, move_damaged_away, record_files
from aitax_ray.schemas import IMAGES, LEDGER, image_id
from aitax_ray.storage import Storage
from tests.blank import blank_row

JPEG = bytes(range(256)) * 40


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Three pairs of files, recorded."""
    storage = Storage(str(tmp_path))
    for number in range(3):
        url = f"url {number}"
        row = blank_row(
            IMAGES, image_id=image_id(url), url=url, jpeg=JPEG, jpeg_sha256=hashlib.sha256(JPEG).hexdigest()
        )
        fate = blank_row(LEDGER, image_id=image_id(url), url=url, status="ok")
        shards.write_shard(
            storage, f"r1-w-{number}", pa.Table.from_pylist([row], IMAGES), pa.Table.from_pylist([fate], LEDGER), 64
        )
    record_files(storage)
    return storage


def write_over(storage: Storage, path: str, data: bytes) -> None:
    """Change a file's bytes, as a disk or a careless hand does; its time of change moves on."""
    file = Path(storage.full(path))
    file.write_bytes(data)
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))


def test_nothing_changed_is_an_empty_sentence(storage: Storage) -> None:
    changes = find_changes(storage)
    assert str(changes) == ""
    assert move_damaged_away(storage, changes) == []


@pytest.mark.parametrize("path", ["images/r1-w-1.parquet", "ledger/r1-w-1.parquet"])
def test_a_missing_file_is_named(storage: Storage, path: str) -> None:
    storage.delete(path)
    assert str(find_changes(storage)) == f"1 file is missing ({path})"


def test_several_files_are_counted(storage: Storage) -> None:
    storage.delete("images")
    storage.write_table("ledger/r2-w-0.parquet", LEDGER.empty_table())
    assert str(find_changes(storage)) == (
        "3 files are missing (images/r1-w-0.parquet, ...), 1 file is new (ledger/r2-w-0.parquet)"
    )


@pytest.mark.parametrize("record", [None, b"", b"[1]", b'{"images/r1-w-0.parquet": 3}'])
def test_without_a_record_every_file_is_new(storage: Storage, record: bytes | None) -> None:
    storage.delete(inventory.RECORD)
    if record is not None:
        storage.write_bytes(inventory.RECORD, record)
    changes = find_changes(storage)
    assert "ledger/files.json" in str(changes)
    assert len(move_damaged_away(storage, changes)) == 6


DAMAGE = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "without its last byte": lambda data: data[:-1],
    "another file": lambda data: b"<html>" + data[6:-6] + b"</html>",
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("path", ["images/r1-w-1.parquet", "ledger/r1-w-1.parquet"])
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("recorded", [True, False])
def test_a_damaged_file_is_moved_away_and_kept(storage: Storage, path: str, damage: str, recorded: bool) -> None:
    if not recorded:
        storage.delete(inventory.RECORD)
    bad = DAMAGE[damage](storage.read_bytes(path))
    write_over(storage, path, bad)
    sound = move_damaged_away(storage, find_changes(storage))
    assert path not in sound
    assert not storage.exists(path)
    folder, name = path.split("/")
    assert storage.read_bytes(f"{folder}/.damaged/{name}") == bad
    assert len(storage.files("")) == 6 - 1 + recorded


def test_a_photograph_with_other_bytes_of_the_same_length_is_damaged(storage: Storage) -> None:
    path = "images/r1-w-1.parquet"
    data = bytearray(storage.read_bytes(path))
    data[data.index(JPEG) + 5000] ^= 1
    write_over(storage, path, bytes(data))
    assert move_damaged_away(storage, find_changes(storage)) == []
    assert storage.exists("images/.damaged/r1-w-1.parquet")


def test_a_file_that_was_only_copied_is_sound(storage: Storage) -> None:
    path = "images/r1-w-1.parquet"
    write_over(storage, path, storage.read_bytes(path))
    changes = find_changes(storage)
    assert changes.changed == [path]
    assert move_damaged_away(storage, changes) == [path]


def test_a_table_without_keys_is_no_file_of_photographs(storage: Storage) -> None:
    storage.write_table("images/other.parquet", pa.table({"a": [1]}))
    assert move_damaged_away(storage, find_changes(storage)) == []
    assert storage.exists("images/.damaged/other.parquet")


def test_a_file_whose_bytes_cannot_be_read_stays_and_ends_the_run(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is gone: that says nothing about the file."""
    storage.write_bytes("images/r1-w-1.parquet", b"half")

    def fail(path: str) -> str:
        raise StorageError(f"{path} cannot be read")

    monkeypatch.setattr(storage, "sha256", fail)
    with pytest.raises(StorageError, match=r"images/r1-w-1\.parquet cannot be read"):
        move_damaged_away(storage, find_changes(storage))
    assert storage.read_bytes("images/r1-w-1.parquet") == b"half"


def test_files_left_out_of_the_record_are_new(storage: Storage) -> None:
    record_files(storage, without=["images/r1-w-1.parquet"])
    assert find_changes(storage).new == ["images/r1-w-1.parquet"]


def test_where_storage_tells_no_times_sizes_are_compared(tmp_path: Path) -> None:
    storage = Storage(f"memory://{tmp_path.name}/{os.getpid()}/inventory")
    storage.write_table("images/a.parquet", IMAGES.empty_table())
    record_files(storage)
    assert str(find_changes(storage)) == ""
    storage.write_bytes("images/a.parquet", b"half")
    assert find_changes(storage).changed == ["images/a.parquet"]
    assert move_damaged_away(storage, find_changes(storage)) == []
    assert storage.read_bytes("images/.damaged/a.parquet") == b"half"


def test_changes_made_on_purpose_are_recorded_and_all_others_are_still_found(storage: Storage) -> None:
    write_over(storage, "images/r1-w-0.parquet", b"changed on purpose")
    storage.delete("images/r1-w-1.parquet")
    write_over(storage, "images/r1-w-2.parquet", b"damaged")
    storage.delete("ledger/r1-w-2.parquet")
    inventory.record_changes(storage, ["images/r1-w-0.parquet", "images/r1-w-1.parquet"])
    changes = find_changes(storage)
    assert (changes.missing, changes.changed, changes.new) == (
        ["ledger/r1-w-2.parquet"],
        ["images/r1-w-2.parquet"],
        [],
    )


def test_without_a_record_none_is_made_of_some_changes(storage: Storage) -> None:
    storage.delete(inventory.RECORD)
    inventory.record_changes(storage, ["images/r1-w-0.parquet"])
    assert find_changes(storage).no_record
