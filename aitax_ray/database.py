"""DuckDB, which joins, sorts and counts large tables, and goes on disk with what does not fit into memory."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import duckdb

from aitax_ray.errors import DataError, StorageError

MEMORY_PER_THREAD = 200  # MB; each thread holds a piece of every column that it reads or writes
MAX_THREADS = 8


@contextlib.contextmanager
def open_database(scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database that keeps what it cannot hold in `scratch`. Raises StorageError when there is no room."""
    spill = scratch / "spill"
    threads = min(MAX_THREADS, os.cpu_count() or 1)
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": threads,
        "memory_limit": f"{threads * MEMORY_PER_THREAD:.0f}MB",
        "temp_directory": str(spill),
        "preserve_insertion_order": False,  # rows carry their numbers
    }
    try:
        with duckdb.connect(config=config) as database:
            yield database
    except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
        reason = str(error).splitlines()[0]
        raise StorageError(
            f"no room in memory or below {scratch} ({reason}): make room or set TMPDIR to another disk"
        ) from error
    except duckdb.Error as error:
        raise DataError(f"the tables cannot be joined: {str(error).splitlines()[0]}") from error


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def parquet(*paths: Path) -> str:
    """Parquet files as a table of SQL."""
    return f"read_parquet([{', '.join(literal(str(path)) for path in paths)}])"


def write(database: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """Write the rows of a query into a Parquet file; what DuckDB may know never to be null needs `nullable`."""
    target = literal(str(path))
    database.execute(f"COPY ({query}) TO {target} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)")


def nullable(query: str) -> str:
    """The same rows, all of whose columns may be null, as in aitax_ray.schemas.

    DuckDB declares columns as never null where it can tell, so that of the files of one table some would not go with
    the others; it cannot tell of TRY. That takes time, and what comes straight from Parquet files without statistics
    does not need it.
    """
    return f"SELECT TRY(COLUMNS(*)) FROM ({query})"
