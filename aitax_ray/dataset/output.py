"""The folder that an export writes to: which export it belongs to, and files that appear complete or not at all."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aitax_ray.errors import StorageError

if TYPE_CHECKING:
    import polars as pl

MARK = "export.json"
SPOOL, PART = ".aitax-spool", ".aitax-part"


def begin(out: Path, mark: dict[str, Any]) -> "pl.Series":
    """Claim the folder for this export, and list its files. Raises StorageError when it holds something else.

    Hidden files do not count: they are the system's, or what a run that was killed was writing.
    """
    import polars as pl

    if out.exists() and not out.is_dir():
        raise StorageError(f"{out} is a file: give --output a folder")
    existing = sorted(path.name for path in out.iterdir() if path.name[0] != ".") if out.exists() else []
    if MARK in existing:
        try:
            known = dict(json.loads((out / MARK).read_bytes()))
        except (ValueError, TypeError):
            known = {}
        if other := [name for name, value in mark.items() if known.get(name) != value]:
            raise StorageError(f"{out} holds an export that differs in {', '.join(other)}: choose another --output")
    elif existing:
        raise StorageError(f"{out} holds files of another origin, such as {existing[0]}: choose another --output")
    else:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / MARK, mark | {"complete": False})
    shutil.rmtree(out / SPOOL, ignore_errors=True)
    paths = []
    for folder, _, names in os.walk(out):
        below = Path(folder).relative_to(out)
        paths += [(below / name).as_posix() for name in names if name[0] != "."]
        for name in names:
            if name[0] == "." and name.endswith(PART):
                Path(folder, name).unlink()
    return pl.Series("path", paths, pl.String)


def refuse_others(out: Path, existing: "pl.Series", own: set[str], more: "pl.Series | None" = None) -> None:
    """Raise StorageError when a file is there that is none of the export's: it would count as a photograph."""
    import polars as pl

    others = existing.filter(~existing.is_in([MARK, *own]))
    if more is not None:
        others = others.to_frame().join(pl.DataFrame({"path": more}), on="path", how="anti")["path"]
    if others.len():
        raise StorageError(
            f"{out} holds {others.len():,} files that the export did not write, such as {others.sort().item(0)}: "
            "move them away or choose another --output"
        )


def write_json(path: Path, value: Any) -> None:
    with open_atomically(path) as file:
        file.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


@contextlib.contextmanager
def open_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file, and give it its name only when all of it is written."""
    temporary = path.with_name(f".{path.name}{PART}")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def explain_write_errors(out: Path) -> Iterator[None]:
    """Turn an error of writing below `out` into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "is on a disk that is full: make room" if full else f"cannot be written ({error}): mend that"
        raise StorageError(f"{out} {what}, and the same command goes on, or choose another --output") from error
