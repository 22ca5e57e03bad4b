"""Storage behaves the same wherever the root is; `memory://` stands for the object stores that fsspec opens.

S3 is moto's server on loopback.
"""

import errno
import hashlib
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from aitax_ray.errors import StorageError
from aitax_ray.storage import Storage, StoredFile
from tests.s3 import BUCKET

TABLE = pa.table({"key": ["a", "b", "c"], "number": [1, 2, 3]})
HTTP_ROOT = "http://127.0.0.1:1/root"  # nothing listens there, and nothing is asked


@pytest.fixture(params=["folder", "file", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        request.getfixturevalue("s3")
        return f"s3://{BUCKET}/{tmp_path.name}/root"
    if request.param == "memory":
        return f"memory://{tmp_path.name}/{os.getpid()}/root"
    return f"{'file://' if request.param == 'file' else ''}{tmp_path}/root"


@pytest.fixture
def storage(root: str) -> Storage:
    return Storage(root)


@pytest.fixture(params=["folder", "file"])
def local(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return Storage(f"{'file://' if request.param == 'file' else ''}{tmp_path}/root")


@pytest.fixture(params=["below a file", "below /proc"])
def unusable(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A root that nobody can write to; permissions would not do, tests may run as root."""
    (tmp_path / "file").touch()
    return Storage(f"{tmp_path}/file/root" if request.param == "below a file" else "/proc/aitax")


def all_files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_bytes_come_back_as_they_were_written(storage: Storage) -> None:
    storage.write_bytes("deep/er/file", b"\0one")
    assert storage.read_bytes("deep/er/file") == b"\0one"
    storage.write_bytes("deep/er/file", b"two")
    assert storage.read_bytes("deep/er/file") == b"two"


def test_json_comes_back_as_it_was_written_and_can_be_read_by_people(storage: Storage) -> None:
    value = {"species": "Heliconius érato", "counts": [1, 2.5, None]}
    storage.write_json("a.json", value)
    assert storage.read_json("a.json") == value
    text = storage.read_bytes("a.json").decode()
    assert "érato" in text
    assert text.endswith("}\n")


def test_a_table_comes_back_as_it_was_written(storage: Storage) -> None:
    storage.write_table("t/one.parquet", TABLE)
    assert storage.read_table("t/one.parquet").equals(TABLE)
    assert storage.read_table("t/one.parquet", ["number"]).column_names == ["number"]


@pytest.mark.parametrize("plain", [(), ("key",), ["number", "key"]])
def test_plain_columns_are_left_as_they_are_and_all_others_compressed(storage: Storage, plain: Sequence[str]) -> None:
    table = pa.table({"key": ["key"] * 10_000, "number": range(10_000), "text": ["text"] * 10_000})
    storage.write_table("t/one.parquet", table, plain=plain)
    group = pq.ParquetFile(storage.full("t/one.parquet"), filesystem=storage.fs).metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    assert {column.path_in_schema: column.compression for column in columns} == {
        name: "UNCOMPRESSED" if name in plain else "ZSTD" for name in table.column_names
    }
    assert storage.read_table("t/one.parquet").equals(table)


def test_the_tables_of_a_folder_are_one_in_the_order_of_their_names(storage: Storage) -> None:
    storage.write_table("t/2.parquet", TABLE.slice(2))
    storage.write_table("t/1.parquet", TABLE.slice(0, 2))
    storage.write_json("t/report.json", {})
    assert storage.read_table("t").equals(TABLE)


def test_an_absent_folder_of_tables_is_the_empty_table_of_its_schema(storage: Storage) -> None:
    assert storage.read_table("t", schema=TABLE.schema).equals(TABLE.slice(0, 0))
    assert storage.read_table("t", ["number"], TABLE.schema).column_names == ["number"]
    with pytest.raises(StorageError, match="no Parquet files"):
        storage.read_table("t")


def test_a_table_can_be_read_in_parts(storage: Storage) -> None:
    storage.write_table("t/one.parquet", TABLE)
    parts = list(storage.read_batches("t/one.parquet", ["number"], 2))
    assert [part.num_rows for part in parts] == [2] * (TABLE.num_rows // 2) + [1] * (TABLE.num_rows % 2)
    assert pa.concat_tables(parts).equals(TABLE.select(["number"]))
    with pytest.raises(StorageError, match="cannot be read"):
        next(storage.read_batches("t/none.parquet", ["number"], 2))


def test_files_are_listed_by_path_with_their_size(storage: Storage) -> None:
    storage.write_bytes("f/b/2.txt", b"22")
    storage.write_bytes("f/a.parquet", b"1")
    storage.write_bytes("f/b/1.txt", b"")
    storage.write_bytes("fx/other", b"1")
    assert storage.files("f") == [StoredFile("f/a.parquet", 1), StoredFile("f/b/1.txt", 0), StoredFile("f/b/2.txt", 2)]
    assert storage.files("f", ".parquet") == [StoredFile("f/a.parquet", 1)]
    assert storage.files("absent") == []
    assert storage.files("f/a.parquet") == []


def test_entries_are_what_lies_directly_in_a_folder(storage: Storage) -> None:
    for path in ("a/2", "a/.1", "a/b/c", "ab/3"):
        storage.write_bytes(path, b"")
    assert storage.entries("a") == ["a/.1", "a/2", "a/b"]
    assert storage.entries("a/2") == storage.entries("absent") == []


def test_hidden_files_are_not_listed(storage: Storage) -> None:
    storage.write_bytes("f/.started.json", b"{}")
    storage.write_bytes("f/seen", b"")
    assert [file.path for file in storage.files("f")] == ["f/seen"]
    assert storage.exists("f/.started.json")


def test_a_file_and_a_folder_exist_until_they_are_deleted(storage: Storage) -> None:
    storage.write_bytes("f/a", b"1")
    storage.write_bytes("f/b/c", b"1")
    assert storage.exists("f/a")
    assert storage.exists("f/b")
    storage.delete("f/a")
    assert not storage.exists("f/a")
    assert storage.exists("f/b/c")
    storage.delete("f")
    assert not storage.exists("f/b/c")
    storage.delete("f")


def test_a_copy_has_the_content_and_the_sha256_of_its_source(storage: Storage) -> None:
    content = bytes(range(256)) * 20_000  # more than one chunk
    storage.write_bytes("a", content)
    storage.copy("a", "deep/b")
    assert storage.read_bytes("deep/b") == content
    assert storage.sha256("deep/b") == hashlib.sha256(content).hexdigest()


def test_a_file_is_copied_from_another_storage(storage: Storage, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000
    other = Storage(str(tmp_path / "other"))
    other.write_bytes("deep/a", content)
    storage.copy("deep/a", "b/c", other)
    assert storage.read_bytes("b/c") == content
    other.copy("b/c", "back", storage)
    assert other.read_bytes("back") == content


def test_the_size_of_each_file_is_found_at_once(storage: Storage) -> None:
    storage.write_bytes("deep/a", b"123")
    storage.write_bytes("b", b"")
    assert storage.sizes(["b", "deep/a", "deep", "absent"]) == [0, 3, None, None]


def test_a_folder_that_is_uploaded_can_be_fetched(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "scann").mkdir(parents=True)
    (source / "one.txt").write_bytes(b"1")
    (source / "scann" / "two.txt").write_bytes(b"22")
    storage.upload(source, "index/up")
    assert [file.path for file in storage.files("index")] == ["index/up/one.txt", "index/up/scann/two.txt"]
    back = storage.fetch("index/up", tmp_path / "back")
    assert back == tmp_path / "back"
    assert all_files(back) == ["one.txt", "scann/two.txt"]
    assert (back / "scann" / "two.txt").read_bytes() == b"22"


def test_one_file_is_fetched_by_its_name(storage: Storage, tmp_path: Path) -> None:
    storage.write_bytes("deep/one.txt", b"1")
    assert all_files(storage.fetch("deep/one.txt", tmp_path / "back")) == ["one.txt"]


def test_a_whole_root_is_fetched_with_its_names(storage: Storage, tmp_path: Path) -> None:
    storage.write_bytes("engine.json", b"{}")
    storage.write_bytes("scann/part", b"1")
    assert all_files(storage.fetch("", tmp_path / "back")) == ["engine.json", "scann/part"]


@pytest.mark.parametrize("read", ["read_bytes", "read_json", "read_table", "sha256", "fetch"])
def test_reading_an_absent_file_names_it(storage: Storage, tmp_path: Path, read: str) -> None:
    arguments: list[Any] = ["absent/a.parquet"] + ([tmp_path / "back"] if read == "fetch" else [])
    with pytest.raises(StorageError, match=r"root/absent/a\.parquet cannot be read"):
        getattr(storage, read)(*arguments)


def test_a_damaged_parquet_file_is_an_error_of_one_line(storage: Storage) -> None:
    storage.write_bytes("t/a.parquet", b"no parquet")
    with pytest.raises(StorageError, match=r"t/a\.parquet cannot be read") as caught:
        storage.read_table("t/a.parquet")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), MemoryError()])
def test_a_failing_write_leaves_the_old_content_and_nothing_else(
    local: Storage, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def write_half(table: pa.Table, target: str, **_: Any) -> None:
        Path(target).write_bytes(b"half")
        raise error

    local.write_table("t/a.parquet", TABLE)
    monkeypatch.setattr(pq, "write_table", write_half)
    with pytest.raises(StorageError if isinstance(error, OSError) else type(error)):
        local.write_table("t/a.parquet", TABLE.slice(1))
    monkeypatch.undo()
    assert local.read_table("t/a.parquet").equals(TABLE)
    assert all_files(Path(local.base)) == ["t/a.parquet"]


def test_a_reader_never_sees_a_half_written_file(local: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    write = pq.write_table

    def look_while_writing(table: pa.Table, target: str, **options: Any) -> None:
        write(table, target, **options)
        seen.append((local.exists("t/a.parquet"), local.files("t")))

    monkeypatch.setattr(pq, "write_table", look_while_writing)
    local.write_table("t/a.parquet", TABLE)
    assert seen == [(False, [])]
    assert local.exists("t/a.parquet")


def test_a_failing_upload_leaves_nothing_half_done(
    local: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"whole")

    def copy_half(_: str, target: str, **__: Any) -> None:
        Path(target).write_bytes(b"wh")
        raise OSError("network gone")

    monkeypatch.setattr("aitax_ray.storage.pafs.copy_files", copy_half)
    with pytest.raises(StorageError, match="network gone"):
        local.upload(source, "up")
    assert all_files(Path(local.base)) == []


def test_a_root_that_cannot_be_written_says_what_to_do(unusable: Storage) -> None:
    with pytest.raises(StorageError, match=r"cannot be written: .*choose a folder or URL that can") as caught:
        unusable.write_bytes("manifest/report.json", b"{}")
    assert f"{unusable.base}/manifest/report.json" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(StorageError, match="choose a folder or URL that can"):
        unusable.write_table("t/a.parquet", TABLE)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_to_do_and_keeps_what_was_there(
    local: Storage, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    local.write_table("t/a.parquet", TABLE)

    def write_half(_: pa.Table, target: str, **__: Any) -> None:
        Path(target).write_bytes(b"PA")
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(pq, "write_table", write_half)
    with pytest.raises(
        StorageError, match=r"t/a\.parquet cannot be written: .*; make room there, and the same command"
    ):
        local.write_table("t/a.parquet", TABLE.slice(1))
    assert all_files(Path(local.base)) == ["t/a.parquet"]
    assert local.read_table("t/a.parquet").equals(TABLE)


def test_a_root_that_is_not_there_has_no_files(unusable: Storage) -> None:
    assert not unusable.exists("manifest/report.json")
    assert unusable.files("manifest") == []
    unusable.delete("manifest")


def test_a_root_that_can_only_be_read_says_what_to_do() -> None:
    with pytest.raises(StorageError, match="choose a folder or URL that can"):
        Storage(HTTP_ROOT).write_bytes("a", b"")


@pytest.mark.parametrize("root", ["nosuch://bucket/name", "~nobody-of-this-name/x", ""])
def test_a_root_that_cannot_be_opened_is_named(root: str) -> None:
    with pytest.raises(StorageError, match=root or "the root is empty"):
        Storage(root)


def test_a_root_of_an_unknown_kind_names_the_extra_to_install() -> None:
    with pytest.raises(StorageError, match=r"pip install 'aitax-ray\[cloud\]'"):
        Storage("nosuch://bucket/name")


def test_a_relative_root_means_the_same_in_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage("here")
    storage.write_bytes("a", b"1")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert storage.root == str(tmp_path / "here")
    assert Storage(storage.root).read_bytes("a") == b"1"


def test_a_home_folder_and_a_trailing_slash_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Storage("~/x/").base == str(tmp_path / "x")
    assert Storage(f"file://{tmp_path}/x/").base == str(tmp_path / "x")
    assert Storage("memory://x/").full("a") == "/x/a"


def test_storage_can_be_sent_to_another_process(local: Storage) -> None:
    local.write_bytes("a", b"1")
    assert pickle.loads(pickle.dumps(local)).read_bytes("a") == b"1"


def test_a_column_that_an_earlier_version_did_not_write_is_null(storage: Storage) -> None:
    schema = pa.schema({"key": pa.string(), "new": pa.float32()})
    storage.write_table("t/0.parquet", TABLE)
    expected = [{"key": key, "new": None} for key in "abc"]
    assert storage.read_table("t", ["key", "new"], schema).to_pylist() == expected
    (batch,) = storage.read_batches("t/0.parquet", ["new", "key"], 9, schema)
    assert batch.column_names == ["new", "key"]
    assert batch.to_pylist() == expected


@pytest.mark.parametrize("secret", ["SECRET", "SEC/RET", "SEC%2FRET"])
@pytest.mark.parametrize("read", ["read_bytes", "read_table", "sha256"])
def test_no_error_shows_the_secret_of_the_root(tmp_path: Path, read: str, secret: str) -> None:
    storage = Storage(f"memory://KEY:{secret}@bucket/{tmp_path.name}")
    with pytest.raises(StorageError) as caught:
        getattr(storage, read)("split/a.parquet")
    assert f"memory://***@bucket/{tmp_path.name}/split/a.parquet cannot be read" in str(caught.value)
    assert "KEY" not in str(caught.value)
    assert "RET" not in str(caught.value)


def test_an_address_is_the_root_as_people_know_it(tmp_path: Path) -> None:
    assert Storage(str(tmp_path)).address("a/b") == f"{tmp_path}/a/b"
    assert Storage("memory://KEY:SECRET@bucket/frogs/").address("a") == "memory://***@bucket/frogs/a"
    assert Storage("memory://bucket").address() == "memory://bucket"


def test_rows_of_a_table_are_changed_group_by_group_and_all_else_stays(storage: Storage) -> None:
    table = pa.table({"key": list("abcdef"), "jpeg": [b"x" * 99] * 6}).replace_schema_metadata({b"size": b"64"})
    storage.fs.create_dir(storage.full("t"), recursive=True)
    pq.write_table(table, storage.full("t/a.parquet"), filesystem=storage.fs, row_group_size=2)
    seen: list[int] = []

    def without_b(rows: pa.Table) -> pa.Table:
        seen.append(rows.num_rows)
        return rows.filter(pc.not_equal(rows["key"], "b"))

    storage.rewrite_table("t/a.parquet", without_b, plain=["jpeg"])
    found = storage.read_table("t/a.parquet")
    assert (found["key"].to_pylist(), found.schema.metadata[b"size"], seen) == (list("acdef"), b"64", [2, 2, 2])
    metadata = pq.read_metadata(storage.full("t/a.parquet"), filesystem=storage.fs)
    assert [metadata.row_group(0).column(n).compression for n in (0, 1)] == ["ZSTD", "UNCOMPRESSED"]


def test_a_table_whose_change_fails_stays_as_it_was(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write_table("t/a.parquet", pa.table({"key": ["a"]}))
    with pytest.raises(ZeroDivisionError):
        storage.rewrite_table("t/a.parquet", lambda rows: rows.slice(0, 1 // 0))
    assert storage.read_table("t/a.parquet")["key"].to_pylist() == ["a"]
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["a.parquet"]
    storage.write_bytes("t/b.parquet", b"rubbish")
    with pytest.raises(StorageError, match=r"b\.parquet cannot be read"):
        storage.rewrite_table("t/b.parquet", lambda rows: rows)


def test_many_tables_become_one_file_and_a_folder_becomes_one_dataset(storage: Storage) -> None:
    schema = pa.schema({"number": pa.int64(), "text": pa.string()})
    for name in "ab":
        tables = (pa.table({"number": [n], "text": pa.array([name], pa.large_string())}) for n in range(3))
        storage.write_tables(f"folder/{name}.parquet", tables, schema)
    assert storage.read_table("folder/a.parquet").to_pydict() == {"number": [0, 1, 2], "text": ["a"] * 3}
    rows = storage.dataset("folder", schema.append(pa.field("later", pa.string()))).to_table().to_pylist()
    assert [(row["number"], row["text"], row["later"]) for row in rows] == [
        (n, name, None) for name in "ab" for n in range(3)
    ]
    assert storage.dataset("absent", schema).num_rows == storage.dataset("absent.parquet", schema).num_rows == 0
