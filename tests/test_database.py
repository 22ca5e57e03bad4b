import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aitax_ray.database import literal, nullable, open_database, parquet, write
from aitax_ray.errors import DataError, StorageError


@pytest.mark.parametrize("text", ["", "plain", "it's", "''", "a\\'b", 'a "quoted" word', "é\n"])
def test_a_literal_is_the_text_itself(tmp_path: Path, text: str) -> None:
    with open_database(tmp_path) as database:
        assert database.execute(f"SELECT {literal(text)}").fetchall() == [(text,)]


def test_what_is_written_is_read_again_from_all_its_files(tmp_path: Path) -> None:
    paths = [tmp_path / "it's one.parquet", tmp_path / "two.parquet"]
    with open_database(tmp_path) as database:
        for start, path in zip((0, 3), paths, strict=True):
            write(database, f"SELECT range AS n FROM range({start}, {start} + 3)", path)
        assert database.execute(f"SELECT n FROM {parquet(*paths)} ORDER BY n").fetchall() == [(i,) for i in range(6)]
    assert pq.read_table(paths[1])["n"].to_pylist() == [3, 4, 5]


def test_no_progress_bar_is_printed(tmp_path: Path) -> None:
    with open_database(tmp_path) as database:
        assert database.execute("SELECT current_setting('enable_progress_bar')").fetchall() == [(False,)]


def test_rows_that_do_not_fit_into_memory_go_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aitax_ray.database.MEMORY_PER_THREAD", 30 / (os.cpu_count() or 1))
    with open_database(tmp_path) as database:
        database.execute("CREATE TABLE wide AS SELECT range AS n, sha1(range::TEXT) AS text FROM range(1_000_000)")
        found = database.execute("SELECT count(*), sum(n) FROM (SELECT n, row_number() OVER (ORDER BY text) FROM wide)")
        assert found.fetchall() == [(1_000_000, 499_999_500_000)]
        assert database.execute("FROM duckdb_temporary_files()").fetchall()
        assert any((tmp_path / "spill").iterdir())


@pytest.mark.parametrize(("cores", "threads", "memory"), [(1, 1, 200), (4, 4, 800), (96, 8, 1600)])
def test_memory_goes_with_the_threads_that_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, threads: int, memory: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    with open_database(tmp_path) as database:
        query = "SELECT current_setting('threads'), current_setting('memory_limit')"
        ((found, limit),) = database.execute(query).fetchall()
    assert found == threads
    number, unit = limit.split()
    assert float(number) * {"MiB": 2**20, "GiB": 2**30}[unit] == pytest.approx(
        memory * 1e6, rel=0.1
    )  # it is shown with one digit


def test_every_column_of_every_file_may_be_null(tmp_path: Path) -> None:
    with open_database(tmp_path) as database:
        for n, where in enumerate(("true", "false", "text <> ''")):
            query = f"SELECT * FROM (SELECT 1 AS \"order\", 'x' AS text, true AS yes) WHERE {where}"
            write(database, nullable(query), tmp_path / f"{n}.parquet")
    expected = pa.schema({"order": pa.int32(), "text": pa.string(), "yes": pa.bool_()})
    assert [pq.read_schema(tmp_path / f"{n}.parquet") for n in range(3)] == [expected] * 3


def run(folder: Path, query: str) -> None:
    with open_database(folder) as database:
        database.execute(query)


def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    query = """
        SET max_temp_directory_size = '0KB';
        SET memory_limit = '5MB';
        CREATE TABLE wide AS SELECT range AS n, sha1(range::TEXT) AS text FROM range(1_000_000)"""
    with pytest.raises(
        StorageError, match=f"no room in memory or below {tmp_path} .*: make room or set TMPDIR to another disk"
    ):
        run(tmp_path, query)


def test_a_query_that_fails_is_an_error_of_the_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the tables cannot be joined: .*north") as caught:
        run(tmp_path, "SELECT 'north'::DOUBLE")
    assert "\n" not in str(caught.value)


def test_joins_of_large_tables_get_a_least_memory(tmp_path: Path) -> None:
    with open_database(tmp_path, 100_000) as database:
        assert database.execute("SELECT current_setting('memory_limit')").fetchall() == [("93.1 GiB",)]
