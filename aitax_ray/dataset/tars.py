"""Tars for webdataset, and the spool in which photographs wait for the others of their tar.

webdataset's own TarWriter is not used: it writes the time and an owner into each member, so that equal data give
different tars, and it would be a dependency for the ten lines of `write_tar`.
"""

import io
import json
import struct
import tarfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_HEAD = struct.Struct("<40sI")  # of a photograph in the spool: image_id, bytes of the JPEG


def collect(spool: Path, photographs: "pl.DataFrame") -> None:
    """Append photographs (tar, image_id, jpeg) to the files of their tars in the spool."""
    records: dict[str, list[bytes]] = defaultdict(list)
    for tar, image_id, jpeg in photographs.select("tar", "image_id", "jpeg").iter_rows():
        records[tar] += [_HEAD.pack(image_id.encode(), len(jpeg)), jpeg]
    for tar, parts in records.items():
        with (spool / tar).open("ab") as file:  # there may be more of them than files one may have open
            file.write(b"".join(parts))


def read_spool(path: Path) -> dict[str, bytes]:
    """Read the photographs of a tar from the spool: their JPEGs by image_id."""
    found = {}
    with path.open("rb") as file:
        while head := file.read(_HEAD.size):
            image_id, size = _HEAD.unpack(head)
            found[image_id.rstrip(b"\0").decode()] = file.read(size)
    return found


def write_tar(file: IO[bytes], jpegs: Mapping[str, bytes], rows: "pl.DataFrame") -> None:
    """Write samples as webdataset reads them: members with the same name up to the first dot follow each other."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row in rows.sort("image_id").iter_rows(named=True):
            details = json.dumps(row, ensure_ascii=False).encode()
            parts = {"jpg": jpegs[row["image_id"]], "cls": str(row["class_index"]).encode(), "json": details}
            for ending, content in parts.items():
                member = tarfile.TarInfo(f"{row['image_id']}.{ending}")  # no time, no owner: equal data, equal tars
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
