"""Storage: files under one root. The root is a folder, or any URL that pyarrow.fs or fsspec opens.

Paths given to these methods are relative to the root. A file appears complete or not at all. On a local disk it is
written under another name and then renamed. For an object store it is written to a local temporary file and then sent:
Arrow publishes an object whenever its stream is closed, also after an exception in the middle.
"""

import contextlib
import errno
import hashlib
import json
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from aitax_ray.errors import StorageError
from aitax_ray.s3 import remedy, with_retries
from aitax_ray.web import hide_secrets

if TYPE_CHECKING:
    import pyarrow.dataset as ds

FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk is full, or the share of it that this user may fill
LOCAL = pafs.LocalFileSystem()
CHUNK_BYTES = 1 << 24  # that are read at once: object stores get a request for each
SENT_BYTES = 1 << 25  # that are given to an object store at once: it has them in parts, of 10 MiB on S3
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)  # an error says that a path leads to no file
MAX_COPY_BYTES = 5 << 30  # S3 refuses to copy larger objects by itself (CopyObject)


@dataclass(frozen=True)
class StoredFile:
    """A file below the root: its relative path and its size in bytes."""

    path: str
    size: int


class Storage:
    """Reads and writes below `root`. It is cheap to make and can be sent to other processes (except `memory://`)."""

    def __init__(self, root: str) -> None:
        self.fs, self.base = _open_filesystem(root)
        # An absolute path, since other processes run in other folders.
        self.root = root if "://" in root else self.base
        self.is_local = isinstance(self.fs, pafs.LocalFileSystem)

    def full(self, path: str = "") -> str:
        """Give the path as the filesystem `fs` needs it, for libraries that take a filesystem and a path."""
        return f"{self.base}/{path}".rstrip("/")

    def address(self, path: str = "") -> str:
        """Give the path as people know it, for messages: without the passwords and keys of the root."""
        return hide_secrets(f"{self.root.rstrip('/')}/{path}".rstrip("/"))

    def exists(self, path: str) -> bool:
        """Tell whether a file or folder is there."""
        return bool(self._info(path).type != pafs.FileType.NotFound)

    def files(self, path: str, suffix: str = "") -> list[StoredFile]:
        """List the files below a folder, sorted by path; an absent folder has none.

        Hidden files, and files in hidden folders, are left out: their names begin with a dot.
        """
        found = self._list(path, recursive=True)
        cut = len(self.base) + 1
        names = ((info.path[cut:], info.size) for info in found if info.type == pafs.FileType.File)
        return sorted(
            (StoredFile(n, s) for n, s in names if n.endswith(suffix) and "/." not in n[len(path) :]),
            key=lambda file: file.path,
        )

    def entries(self, path: str) -> list[str]:
        """List the files and folders directly in a folder, hidden ones too; an absent folder has none."""
        return sorted(info.path[len(self.base) + 1 :] for info in self._list(path))

    def read_bytes(self, path: str) -> bytes:
        """Read all bytes of a file. Raises StorageError when it is not there."""
        try:
            with self.fs.open_input_stream(self.full(path)) as stream:
                # Without a size, Arrow reads 256 KiB at a time.
                return b"".join(iter(lambda: stream.read(CHUNK_BYTES), b""))
        except OSError as error:
            raise self.unreadable(path, error) from error

    def read_if_there(self, path: str) -> bytes | None:
        """Read all bytes of a file; None when it is not there. Object stores get fewer requests than by `exists`."""
        try:
            return self.read_bytes(path)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                return None
            raise

    def write_bytes(self, path: str, data: bytes) -> None:
        """Write all bytes of a file; a reader sees the old or the new content, never a part."""
        with self._complete_file(path) as target:
            Path(target).write_bytes(data)

    def read_json(self, path: str) -> Any:
        """Read a JSON file."""
        return json.loads(self.read_bytes(path))

    def write_json(self, path: str, value: Any) -> None:
        """Write a JSON file, indented for people."""
        self.write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n").encode())

    def read_table(self, path: str, columns: list[str] | None = None, schema: pa.Schema | None = None) -> pa.Table:
        """Read a Parquet file, or all Parquet files of a folder as one table.

        With a `schema`, an absent or empty folder gives an empty table, and a column that a file lacks is null: an
        earlier version may have written the file.
        """
        names = (
            [self.full(path)]
            if path.endswith(".parquet")
            else [self.full(f.path) for f in self.files(path, ".parquet")]
        )
        if not names:
            if schema is None:
                raise StorageError(f"no Parquet files in {self.address(path)}")
            return schema.empty_table().select(columns or schema.names)
        try:
            tables = []
            for name in names:
                with self.fs.open_input_file(name) as file:  # given the name, Arrow asks for its size three times
                    tables.append(pq.read_table(file, columns=columns, schema=schema))
            return pa.concat_tables(tables)
        except (OSError, pa.ArrowInvalid) as error:
            raise self.unreadable(path, error) from error

    def read_batches(
        self, path: str, columns: list[str], num_rows: int, schema: pa.Schema | None = None
    ) -> Iterator[pa.Table]:
        """Read a Parquet file in tables of at most `num_rows` rows, so that it need not fit into memory.

        With a `schema`, a column that the file lacks is null.
        """
        try:
            with pq.ParquetFile(self.full(path), filesystem=self.fs) as file:
                absent = (
                    [] if schema is None else [schema.field(n) for n in columns if n not in file.schema_arrow.names]
                )
                there = [name for name in columns if name not in {field.name for field in absent}]
                for batch in file.iter_batches(num_rows, columns=there):
                    table = pa.Table.from_batches([batch])
                    for field in absent:
                        table = table.append_column(field, pa.nulls(table.num_rows, field.type))
                    yield table if schema is None else table.select(columns)
        except (OSError, pa.ArrowInvalid) as error:
            raise self.unreadable(path, error) from error

    def dataset(self, path: str, schema: pa.Schema) -> "ds.Dataset | pa.Table":
        """Open a Parquet file, or those of a folder, as one table for DuckDB; nothing is read yet.

        An absent file or folder gives an empty table. A column that a file lacks is null.
        """
        import pyarrow.dataset as ds

        if path.endswith(".parquet"):
            paths = [path] if self.exists(path) else []
        else:
            paths = [file.path for file in self.files(path, ".parquet")]
        full = [self.full(name) for name in paths]
        return ds.dataset(full, schema=schema, format="parquet", filesystem=self.fs) if full else schema.empty_table()

    def write_tables(self, path: str, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        """Write one Parquet file of many tables, one after the other, so that they need not be in memory together."""
        with (
            self._complete_file(path) as target,
            pq.ParquetWriter(target, schema, compression="zstd") as file,
        ):
            for table in tables:
                file.write_table(table.cast(schema))

    def write_table(self, path: str, table: pa.Table, plain: Sequence[str] = ()) -> None:
        """Write one Parquet file; the columns in `plain` are not compressed, since their content is already."""
        compression = {name: "none" if name in plain else "zstd" for name in table.schema.names} if plain else "zstd"
        with self._complete_file(path) as target:
            pq.write_table(table, target, compression=compression)

    def rewrite_table(self, path: str, change: Callable[[pa.Table], pa.Table], plain: Sequence[str] = ()) -> None:
        """Change the rows of a Parquet file, one row group after the other; see `write_table` for `plain`.

        The schema and its metadata stay.
        """
        try:
            with pq.ParquetFile(self.full(path), filesystem=self.fs) as old, self._complete_file(path) as target:
                schema = old.schema_arrow
                compression = {name: "none" if name in plain else "zstd" for name in schema.names}
                with pq.ParquetWriter(target, schema, compression=compression) as new:
                    for group in range(old.num_row_groups):
                        new.write_table(change(old.read_row_group(group)).cast(schema))
        except (OSError, pa.ArrowInvalid) as error:
            raise self.unreadable(path, error) from error

    def copy(self, source: str, path: str, storage: "Storage | None" = None) -> None:
        """Copy a file of the root, or of another storage, to `path`, without holding it in memory."""
        other = storage or self
        self._copy(other.fs, other.full(source), path)

    def _copy(self, fs: pafs.FileSystem, source: str, path: str) -> None:
        if not self.is_local and fs.equals(self.fs) and self._let_store_copy(source, path):
            return
        if not self.is_local and isinstance(fs, pafs.LocalFileSystem):
            with self._errors_of_writing(path):
                self._send(source, path)
        else:
            with self._complete_file(path) as target:
                _copy_here(fs, source, target)

    def _let_store_copy(self, source: str, path: str) -> bool:
        """Copy a file within an object store, by itself. False: the file is too large for that."""
        with self._errors_of_writing(path):
            try:
                self.fs.copy_file(source, self.full(path))
            except OSError:
                if (self.fs.get_file_info(source).size or 0) <= MAX_COPY_BYTES:
                    raise
                return False
        return True

    def sizes(self, paths: Sequence[str]) -> list[int | None]:
        """Give the size of each file in bytes; None where there is no file."""
        try:
            found = self.fs.get_file_info([self.full(path) for path in paths])
        except OSError as error:
            raise StorageError(f"{self.address()} cannot be reached: {self._reason(error)}") from error
        return [info.size if info.type == pafs.FileType.File else None for info in found]

    def sha256(self, path: str) -> str:
        """The sha256 of a file, in hex digits."""
        digest = hashlib.sha256()
        try:
            with self.fs.open_input_stream(self.full(path)) as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    digest.update(chunk)
        except OSError as error:
            raise self.unreadable(path, error) from error
        return digest.hexdigest()

    def delete(self, path: str) -> None:
        """Delete a file, or a folder and everything in it. An absent path is no error."""
        try:
            match self._info(path).type:
                case pafs.FileType.Directory:
                    self.fs.delete_dir(self.full(path))
                case pafs.FileType.File:
                    self.fs.delete_file(self.full(path))
        except OSError as error:
            raise StorageError(f"{self.address(path)} cannot be deleted: {self._reason(error)}") from error

    def upload(self, folder: Path, path: str) -> None:
        """Copy all files of a local folder to below `path`."""
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            self._copy(LOCAL, str(file), f"{path}/{file.relative_to(folder).as_posix()}")

    def fetch(self, path: str, folder: Path) -> Path:
        """Copy a file, or all files below `path`, into a local folder; return that folder."""
        names = [f.path for f in self.files(path)] or [path]
        for name in names:
            target = folder / (name.removeprefix(f"{path}/") if name != path else name.rsplit("/", 1)[-1])
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _copy_here(self.fs, self.full(name), str(target))
            except OSError as error:
                raise self.unreadable(name, error) from error
        return folder

    def _info(self, path: str) -> pafs.FileInfo:
        try:
            return self.fs.get_file_info(self.full(path))
        except OSError as error:
            raise StorageError(f"{self.address(path)} cannot be reached: {self._reason(error)}") from error

    def _list(self, path: str, *, recursive: bool = False) -> list[pafs.FileInfo]:
        """List a folder; files and absent folders have nothing in them. An object store gets a request per 1,000."""
        try:
            selector = pafs.FileSelector(self.full(path), recursive=recursive, allow_not_found=True)
            return list(self.fs.get_file_info(selector))
        except NotADirectoryError:
            return []
        except OSError as error:
            raise StorageError(f"{self.address(path)} cannot be listed: {self._reason(error)}") from error

    def unreadable(self, path: str, error: Exception) -> StorageError:
        """The error of a file that cannot be read, with what to do where that is known."""
        return StorageError(f"{self.address(path)} cannot be read: {self._reason(error)}")

    def _reason(self, error: Exception, otherwise: str = "") -> str:
        """Say in one line why, and what to do: `otherwise` for errors without a remedy of their own."""
        # fsspec may leave the user and password of an address in its paths.
        reason = _one_line(error).replace(self.base, self.address()) if "@" in self.base else _one_line(error)
        return "; ".join(filter(None, (reason.rstrip("."), (not self.is_local and remedy(reason)) or otherwise)))

    @contextlib.contextmanager
    def _errors_of_writing(self, path: str) -> Iterator[None]:
        try:
            yield
        except (OSError, NotImplementedError) as error:  # the second comes from roots that can only be read (http://)
            todo = "choose a folder or URL that can be written to"
            if isinstance(error, OSError) and error.errno in FULL:
                place = "there" if self.is_local else "in the folder for temporary files"
                todo = f"make room {place}, and the same command goes on"
            reason = self._reason(error, todo)
            raise StorageError(f"{self.address(path)} cannot be written: {reason}") from error

    def _send(self, file: str, path: str) -> None:
        """Send a complete local file to an object store.

        Closing the stream publishes what has been written, also after an exception. So Ctrl-C waits: it comes to
        another thread. `pyarrow.fs.copy_files` does not report an error of closing.
        """
        final = self.full(path)
        self.fs.create_dir(final.rsplit("/", 1)[0], recursive=True)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(_send_to, self.fs, final, file).result()

    @contextlib.contextmanager
    def _complete_file(self, path: str) -> Iterator[str]:
        """Yield the local file to write to. On success it becomes the file `path`; on failure nothing is left."""
        final = self.full(path)
        parent, name = final.rsplit("/", 1)
        with self._errors_of_writing(path):
            if not self.is_local:
                with tempfile.TemporaryDirectory(prefix="aitax-") as folder:
                    yield f"{folder}/{name}"
                    self._send(f"{folder}/{name}", path)
                return
            target = f"{parent}/.{name}.{uuid.uuid4().hex}"
            try:
                self.fs.create_dir(parent, recursive=True)
                yield target
                self.fs.move(target, final)
            finally:
                with contextlib.suppress(OSError):  # the first error is the one to report
                    if self.fs.get_file_info(target).type == pafs.FileType.File:
                        self.fs.delete_file(target)


def is_of_the_storage(error: BaseException) -> bool:
    """Tell whether a storage has failed, and not the file: then nothing is known about the file.

    A disk or a shared folder that fails gives an error with a number, such as ENOSPC; a damaged file gives none.
    """
    numbers = [each.errno for each in (error, error.__cause__) if isinstance(each, OSError)]
    return bool(remedy(str(error))) or any(number not in (None, *ABSENT) for number in numbers)


def _copy_here(fs: pafs.FileSystem, path: str, target: str) -> None:
    pafs.copy_files(path, target, source_filesystem=fs, destination_filesystem=LOCAL, chunk_size=CHUNK_BYTES)


def _send_to(fs: pafs.FileSystem, path: str, file: str) -> None:
    with pa.memory_map(file) as source, fs.open_output_stream(path) as sink:
        content = source.read_buffer()
        for start in range(0, content.size, SENT_BYTES):
            if start:
                sink.flush()  # an error of a part shows here, and memory holds no more than this
            sink.write(content.slice(start, min(SENT_BYTES, content.size - start)))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _open_filesystem(root: str) -> tuple[pafs.FileSystem, str]:
    if not root:
        raise StorageError("the root is empty: give a folder, or a URL such as s3://bucket/name")
    if "://" not in root:
        try:
            return pafs.LocalFileSystem(), str(Path(root).expanduser().absolute()).rstrip("/")
        except RuntimeError as error:  # ~somebody
            raise StorageError(f"{root} cannot be opened: {_one_line(error)}") from error
    try:
        fs, base = pafs.FileSystem.from_uri(root)
        return with_retries(fs) if fs.type_name == "s3" else fs, base.rstrip("/")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        import fsspec

        try:
            fs, base = fsspec.core.url_to_fs(root)
        except (ValueError, ImportError) as error:
            raise StorageError(
                f"{root} cannot be opened ({_one_line(error)}); for cloud storage: pip install 'aitax-ray[cloud]'"
            ) from error
        return pafs.PyFileSystem(pafs.FSSpecHandler(fs)), base.rstrip("/")
    except OSError as error:
        raise StorageError(f"{root} cannot be opened: {_one_line(error)}") from error
