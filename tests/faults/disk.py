"""A small disk that scripts can fill: a tmpfs, which only root can mount."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

LARGE = "4g"


@contextlib.contextmanager
def mounted(disk: Path) -> Iterator[Path]:
    """Make a disk of its own, in memory."""
    disk.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", disk)
    try:
        yield disk
    finally:
        _run("umount", "-l", disk)


def resize(disk: Path, size: int | str) -> None:
    """Change the size of a disk, in bytes or such as 4g."""
    _run("mount", "-o", f"remount,size={size}", disk)


def used_bytes(disk: Path) -> int:
    """Count the bytes in use on a disk."""
    return int(_run("df", "-B1", "--output=used", disk).split()[-1])


def _run(*command: str | Path) -> str:
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
