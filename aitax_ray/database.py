"""DuckDB joins, sorts and counts large tables. What does not fit into memory goes to disk."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import duckdb

from aitax_ray.errors import DataError, StorageError

MEMORY_PER_THREAD = 200  # MB: each thread holds a piece of every column that it reads or writes
MEMORY_FOR_JOINS = 1000  # MB, at least, for joins of tables with tens of millions of rows: their parts must fit
MAX_THREADS = 8


@contextlib.contextmanager
def open_database(scratch: Path, memory_mb: int = 0) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty database that uses `scratch` when memory is full. Raises StorageError when there is no room.

    `memory_mb` is the least memory that it may take; it takes more where it has many threads.
    """
    spill = scratch / "spill"
    threads = min(MAX_THREADS, os.cpu_count() or 1)
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": threads,
        "memory_limit": f"{max(memory_mb, threads * MEMORY_PER_THREAD)}MB",
        "temp_directory": str(spill),
        "preserve_insertion_order": False,  # rows have a number of their own
    }
    try:
        with duckdb.connect(config=config) as database:
            database.execute("SET enable_progress_bar = false")  # DuckDB would print one, also into log files
            yield database
    except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
        reason = str(error).splitlines()[0]
        raise StorageError(
            f"no room in memory or below {scratch} ({reason}): make room or set TMPDIR to another disk"
        ) from error
    except duckdb.Error as error:
        raise DataError(f"the tables cannot be joined: {str(error).splitlines()[0]}") from error


def literal(text: str) -> str:
    """Write a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def parquet(*paths: Path) -> str:
    """Write the SQL that reads Parquet files as one table."""
    return f"read_parquet([{', '.join(literal(str(path)) for path in paths)}])"


def write(database: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """Write the rows of a query into a Parquet file. Queries with computed columns need `nullable`."""
    target = literal(str(path))
    database.execute(f"COPY ({query}) TO {target} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)")


def nullable(query: str) -> str:
    """Make every column of a query nullable, as in aitax_ray.schemas.

    DuckDB declares a column as never null where it can prove that. Then the files of one table have different schemas.
    TRY makes DuckDB treat a column as nullable. That takes time; columns that are read from Parquet files without
    statistics do not need it.
    """
    return f"SELECT TRY(COLUMNS(*)) FROM ({query})"
