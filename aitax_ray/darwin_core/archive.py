"""A Darwin Core Archive with media: open it, or say what the file is instead and what to ask GBIF for."""

import contextlib
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from aitax_ray.darwin_core import unpack
from aitax_ray.darwin_core.citation import Citation, read_download_citation, read_publisher_citation
from aitax_ray.darwin_core.descriptor import (
    AUDUBON,
    EVENT,
    IMAGE,
    MAX_BYTES,
    MULTIMEDIA,
    OCCURRENCE,
    TAXON,
    Descriptor,
    TableFile,
    parse_meta,
)
from aitax_ray.darwin_core.tables import ASK, TableReader, Terms
from aitax_ray.darwin_core.unpack import Files
from aitax_ray.errors import ArchiveError

log = logging.getLogger(__name__)

MAX_COLUMNS = 10_000
CORES = {"taxon": "a checklist", "event": "sampling events"}
GBIF_ID = "gbifID"


@dataclass(frozen=True)
class Archive:
    """An open archive. `scratch` is a folder for the tables that are read; it is deleted when the archive is closed."""

    where: str
    files: Files
    descriptor: Descriptor
    scratch: Path

    @property
    def core(self) -> TableFile:
        """The table to whose rows the other tables refer."""
        return self.descriptor.core

    @property
    def is_of_gbif(self) -> bool:
        """Whether it is a download of GBIF, which has keys of species. Other archives are made by publishers."""
        return self.core.kind == OCCURRENCE and self.core.has(GBIF_ID)

    @property
    def citation(self) -> Citation:
        """The origin that the archive itself names."""
        if self.is_of_gbif:
            return read_download_citation(self.files)
        return read_publisher_citation(self.files, self.descriptor.metadata)

    @property
    def media(self) -> list[TableFile]:
        """The tables of media.

        Of a download of GBIF the one that GBIF interpreted; what publishers wrote (verbatim extensions) repeats it.
        """
        known = [table for kind in (MULTIMEDIA, AUDUBON, IMAGE) for table in self.descriptor.tables(kind)]
        found = known + [table for table in self.descriptor.extensions if table.is_media and table not in known]
        return found[:1] if self.is_of_gbif else found

    @property
    def associated_media(self) -> TableFile | None:
        """The table of occurrences that list their media in `associatedMedia`.

        None for downloads of GBIF, whose multimedia.txt has these already.
        """
        tables = self.descriptor.tables(OCCURRENCE)[:1]
        return next((t for t in tables if t.has("associatedMedia") and not self.is_of_gbif), None)

    def read(self, table: TableFile, columns: Mapping[str, Terms], *, first_row: int = 0) -> Path:
        """Read a table into a Parquet file in `scratch`. See `TableReader.read`; raises ArchiveError as it does."""
        reader = TableReader(self.files, self.where, self.scratch, is_regular=self.is_of_gbif)
        is_core = table is self.core
        return reader.read(table, columns, first_row=first_row, is_core=is_core)


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a zip, a tar or a folder as Darwin Core Archive with media.

    A folder may also hold the zip or tar itself. Raises ArchiveError with one sentence on what it is instead and what
    to ask GBIF for.
    """
    path = _only_archive(path) or path
    with tempfile.TemporaryDirectory(prefix="aitax-archive-") as folder, _files(path, Path(folder)) as files:
        meta = files.find("meta.xml")
        if meta is None:
            raise ArchiveError(_without_meta(files))
        if files.sizes[meta] > MAX_BYTES:
            raise ArchiveError(f"the meta.xml of {path} has {files.sizes[meta]:,} bytes: {ASK}")
        descriptor = parse_meta(files.get(meta).read_bytes(), str(path))
        archive = Archive(str(path), files, descriptor, Path(folder))
        core = archive.core
        if core.kind not in (OCCURRENCE, EVENT, TAXON):
            kind = re.split(r"[/#]", core.row_type)[-1] or "nothing"
            raise ArchiveError(f"{path} is a Darwin Core Archive of {kind} rows, not of occurrences: {ASK}")
        if not archive.media and archive.associated_media is None:
            what = f" of {CORES[core.kind]}" if core.kind in CORES else ""
            raise ArchiveError(f"{path} is a Darwin Core Archive{what} without media: {ASK}")
        if core.kind == EVENT and not descriptor.tables(OCCURRENCE):
            raise ArchiveError(f"{path} has sampling events without occurrences, so its media have no species: {ASK}")
        if max(table.width for table in (core, *archive.media, *descriptor.tables(OCCURRENCE))) > MAX_COLUMNS:
            raise ArchiveError(f"the meta.xml of {path} names more than {MAX_COLUMNS:,} columns: {ASK}")
        yield archive


def _only_archive(folder: Path) -> Path | None:
    """The zip or tar in a folder that holds nothing else."""
    inside = list(folder.iterdir()) if folder.is_dir() else []
    packed = [
        path for path in inside if path.is_file() and path.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz"))
    ]
    return packed[0] if len(packed) == len(inside) == 1 else None


@contextlib.contextmanager
def _files(path: Path, scratch: Path) -> Iterator[Files]:
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv", ".txt"):
        raise ArchiveError(f"{path} is a single table, without media: {ASK}")
    with unpack.open_files(path, scratch) as files:
        yield files


def _without_meta(files: Files) -> str:
    names = list(files.sizes)
    if len(names) == 1 and names[0].lower().endswith((".csv", ".tsv", ".txt")):
        return f"{files.where} is a single table without media (GBIF calls it SIMPLE_CSV): {ASK}"
    if any(name.lower().endswith((".parquet", ".avro")) for name in names):
        return f"{files.where} is a GBIF download without media (Parquet or Avro): {ASK}"
    return f"{files.where} has no meta.xml, so it is no Darwin Core Archive: {ASK}"
