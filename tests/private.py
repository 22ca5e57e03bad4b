"""Looks for what must not be published in everything that lies below a folder."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq


def assert_nothing_private(root: Path, secrets: Sequence[str]) -> None:
    """Assert that no file at or below `root`, and no name of one, holds any of the texts, as they are or escaped.

    Parquet is read, since it is compressed, and so are the members of zip files.
    """
    files = [path for path in [root, *root.rglob("*")] if path.is_file()]
    assert files, f"{root} holds no file"
    wanted = {form.encode() for secret in secrets for form in (secret, quote(secret), quote(secret, safe=""))}
    for path in files:
        for name, content in _contents(path):
            found = [form.decode() for form in wanted if form in content or form in name.encode()]
            assert not found, f"{name} holds {found}"


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    yield str(path.name), path.read_bytes()
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        yield str(path.name), str((table.to_pylist(), table.schema.metadata)).encode()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from ((f"{path.name}/{name}", archive.read(name)) for name in archive.namelist())
