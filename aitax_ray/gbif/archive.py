"""A Darwin Core Archive as two tables of strings: its occurrences and their media, every column by its term's name."""

import codecs
import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from aitax_ray.errors import ArchiveError
from aitax_ray.gbif import unpack
from aitax_ray.gbif.descriptor import AUDUBON, MAX_BYTES, MULTIMEDIA, OCCURRENCE, TableFile, parse_meta, parse_xml
from aitax_ray.gbif.unpack import Files

KEY = "core_id"  # the occurrence's id, in both tables
ASK = "on gbif.org, download the occurrences (with images) in format Darwin Core Archive"
MAX_COLUMNS = 10_000


@dataclass(frozen=True)
class Citation:
    """What an archive says of its own origin; "" where it does not."""

    doi: str = ""
    download_key: str = ""
    date: str = ""  # ISO 8601
    datasets: tuple[str, ...] = ()  # the citation of each dataset


@dataclass(frozen=True)
class Archive:
    """An open archive. The tables are lazy and live as long as it is open."""

    where: str
    citation: Citation
    files: Files
    core: TableFile
    multimedia: TableFile
    scratch: Path

    def occurrences(self, columns: Sequence[str]) -> pl.LazyFrame:
        """The occurrences: `core_id` and these columns, strings, "" where there is nothing."""
        return self._scan(self.core).select(KEY, *(_column(self.core, c) for c in columns))

    def media(self, columns: Sequence[str]) -> pl.LazyFrame:
        """The media: `row` counted from 0, `core_id` and these columns, strings, "" where there is nothing.

        Lines that hold nothing at all are no rows.
        """
        lines = self._scan(self.multimedia).filter(~pl.all_horizontal(pl.exclude(KEY).is_null()))
        columns_ = [_column(self.multimedia, c) for c in columns]
        return lines.select(KEY, *columns_).with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))

    def read(self, table: pl.LazyFrame) -> pl.DataFrame:
        """Carry out what was asked of the tables. Raises ArchiveError when their text cannot be read."""
        try:
            return table.collect(engine="streaming")
        except pl.exceptions.PolarsError as error:
            raise ArchiveError(f"{self.where} cannot be read ({str(error).splitlines()[0]}): {ASK}") from error

    def _scan(self, table: TableFile) -> pl.LazyFrame:
        width = max([table.key, *table.columns.values()]) + 1
        frames = [
            pl.scan_csv(
                self._utf8(self.files.get(name), table.encoding),
                has_header=False,
                skip_lines=table.header_lines,  # of lines, not rows: a header may hold an unbalanced quote
                separator=table.delimiter,
                quote_char=table.quote or None,
                eol_char=table.line_end,
                schema={str(i): pl.String for i in range(width)},
                # Rows that are too short or too long keep what they have.
                missing_columns="insert",
                extra_columns="ignore",
                encoding="utf8-lossy",
                glob=False,
                raise_if_empty=False,
            )
            for name in self._members(table)
        ]
        return pl.concat(frames).with_columns(pl.col(str(table.key)).fill_null("").str.strip_chars().alias(KEY))

    def _utf8(self, path: Path, encoding: str) -> Path:
        """The same text in UTF-8, which is what polars reads."""
        if codecs.lookup(encoding).name in ("utf-8", "ascii"):
            return path
        with (
            path.open(encoding=encoding, errors="replace", newline="") as source,
            tempfile.NamedTemporaryFile("w", dir=self.scratch, delete=False, encoding="utf-8", newline="") as target,
        ):
            shutil.copyfileobj(source, target)
        return Path(target.name)

    def _members(self, table: TableFile) -> list[str]:
        meta = self.files.find("meta.xml") or ""
        names = [meta.removesuffix("meta.xml") + location for location in table.locations]
        for name in names:
            if name not in self.files.sizes:
                raise ArchiveError(f"{self.where} lacks {name}, which its meta.xml names: download the archive again")
        return names


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a zip, a tar or a folder as Darwin Core Archive of occurrences with media.

    Raises ArchiveError with one sentence on what it is instead and what to ask GBIF for.
    """
    with tempfile.TemporaryDirectory(prefix="aitax-archive-") as folder, _files(path, Path(folder)) as files:
        meta = files.find("meta.xml")
        if meta is None:
            raise ArchiveError(_without_meta(files))
        if files.sizes[meta] > MAX_BYTES:
            raise ArchiveError(f"the meta.xml of {path} is of {files.sizes[meta]:,} bytes: {ASK}")
        descriptor = parse_meta(files.get(meta).read_bytes(), str(path))
        core, multimedia = descriptor.core, descriptor.extension(MULTIMEDIA)
        if core.row_type.lower() != OCCURRENCE.lower():
            kind = re.split(r"[/#]", core.row_type)[-1] or "nothing"
            raise ArchiveError(f"{path} is a Darwin Core Archive of {kind} rows, not of occurrences: {ASK}")
        if multimedia is None:
            has = "its media in Audubon Core, which is not read" if descriptor.extension(AUDUBON) else "no media"
            raise ArchiveError(f"{path} is a Darwin Core Archive with {has}: {ASK}")
        if "speciesKey" not in core.columns and "speciesKey" not in core.defaults:
            raise ArchiveError(f"{path} is a publisher's archive, without GBIF's species keys: {ASK}")
        if max([core.key, multimedia.key, *core.columns.values(), *multimedia.columns.values()]) > MAX_COLUMNS:
            raise ArchiveError(f"the meta.xml of {path} speaks of more than {MAX_COLUMNS:,} columns: {ASK}")
        yield Archive(str(path), _citation(files), files, core, multimedia, Path(folder))


@contextlib.contextmanager
def _files(path: Path, scratch: Path) -> Iterator[Files]:
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv", ".txt"):
        raise ArchiveError(f"{path} is a single table, without media: {ASK}")
    with unpack.open_files(path, scratch) as files:
        # Unpacking the same file twice would cost minutes.
        known: dict[str, Path] = {}

        def get(name: str) -> Path:
            if name not in known:
                known[name] = files.get(name)
            return known[name]

        yield Files(files.where, files.sizes, get)


def _without_meta(files: Files) -> str:
    names = list(files.sizes)
    if len(names) == 1 and names[0].lower().endswith((".csv", ".tsv", ".txt")):
        return f"{files.where} is a single table without media (GBIF calls it SIMPLE_CSV): {ASK}"
    if any(name.lower().endswith((".parquet", ".avro")) for name in names):
        return f"{files.where} is a GBIF download without media (Parquet or Avro): {ASK}"
    return f"{files.where} has no meta.xml, so it is no Darwin Core Archive: {ASK}"


def _column(table: TableFile, name: str) -> pl.Expr:
    default = pl.lit(table.defaults.get(name, ""))
    if name not in table.columns:
        return default.alias(name)
    return pl.col(str(table.columns[name])).fill_null(default).alias(name)


def _citation(files: Files) -> Citation:
    """Read metadata.xml and citations.txt, as far as they are there and of use."""
    doi = key = date = ""
    if (name := files.find("metadata.xml")) and files.sizes[name] <= MAX_BYTES:
        with contextlib.suppress(ValueError):
            root = parse_xml(files.get(name).read_bytes())
            found = re.fullmatch(r"(?:https?://doi\.org/|doi:)?(10\.\d{4,9}/\S+)", root.get("packageId", "").strip())
            doi = found[1].lower() if found else ""
            key = (root.findtext(".//alternateIdentifier") or "").strip()
            date = (root.findtext(".//pubDate") or "").strip()
    lines: list[str] = []
    if (name := files.find("citations.txt")) and files.sizes[name] <= MAX_BYTES:
        text = files.get(name).read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.split("\n") if line.strip() and not line.startswith("When using")]
    return Citation(doi, key, date, tuple(lines))
