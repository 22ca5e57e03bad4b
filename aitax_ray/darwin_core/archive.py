"""A Darwin Core Archive: opened, told apart from what only looks like one, its tables read into Parquet by term.

The text is read as a stream, straight from the zip, and only the columns that are asked for are kept: an archive of
millions of occurrences takes the memory that a small one takes.
"""

import codecs
import contextlib
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import polars.selectors as cs

from aitax_ray.darwin_core import unpack
from aitax_ray.darwin_core.citation import Citation, of_download, of_publisher
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
from aitax_ray.darwin_core.rewrite import MALFORMED, RECORD, UNIT, is_utf8, read_field_counts, rewrite
from aitax_ray.darwin_core.unpack import Files
from aitax_ray.errors import ArchiveError

log = logging.getLogger(__name__)

MALFORMED_COLUMN = "is_malformed"
BEYOND = 3  # columns after the last one, in which a row that is too long shows
KEY = "core_id"  # the id of the core's row that a row belongs to
ASK = "on gbif.org, download the occurrences (with images) in format Darwin Core Archive"
MAX_COLUMNS = 10_000
BLANKS = " \t\r\n\v\f\x00\u00a0\u200b\ufeff"
TOLD_BYTES = 100_000_000  # of a table that takes long enough to say so
Terms = Sequence[str | tuple[str, ...]]
CORES = {"taxon": "a checklist", "event": "sampling events"}
GBIF_ID = "gbifID"


@dataclass(frozen=True)
class Archive:
    """An open archive. `scratch` is a folder for what is read from it, and goes when it is closed."""

    where: str
    files: Files
    descriptor: Descriptor
    scratch: Path

    @property
    def core(self) -> TableFile:
        """The table that the others refer to."""
        return self.descriptor.core

    @property
    def is_of_gbif(self) -> bool:
        """Whether it is a download of GBIF, which has species keys; else a publisher made it."""
        return self.core.kind == OCCURRENCE and self.core.has(GBIF_ID)

    @property
    def citation(self) -> Citation:
        """What it says of its origin."""
        return of_download(self.files) if self.is_of_gbif else of_publisher(self.files, self.descriptor.metadata)

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
        """Read a table into a Parquet file in `scratch`: `row`, `core_id`, these columns, and `is_malformed`.

        `columns` leads from a name to the terms that fill it: the first term that is not empty; terms in a tuple are
        joined. Columns are text without blanks around it, "" where there is nothing. `row` counts from `first_row`;
        lines with nothing in any column are no rows. `is_malformed` is true for a row that fits the table in no way of
        reading, whose values may belong to other columns. Raises ArchiveError when the text cannot be read.
        """
        members = self._members(table)
        size = sum(self.files.sizes[name] for name in members)
        if size > TOLD_BYTES:
            log.info("reading %s of %s MB", ", ".join(members[:3]), f"{size / 1e6:,.0f}")
        target = self.scratch / f"table-{len(list(self.scratch.iterdir()))}.parquet"
        with self._readable():
            lines = pl.concat([self._scan(table, name) for name in members])
            self._write(lines, table, columns, first_row, target)
            if self._has_foreign_bytes(table, members, target):
                lines = pl.concat([self._scan_rewritten(table, name) for name in members])
                self._write(lines, table, columns, first_row, target)
            found = pl.scan_parquet(target).select(pl.col(MALFORMED_COLUMN).sum()).collect()
        if num_malformed := int(found.item() or 0):
            log.warning(
                "%s: %s rows have more or fewer columns than the table, whichever way their quotes are read: "
                "they are left out",
                ", ".join(members[:3]), f"{num_malformed:,}",
            )  # fmt: skip
        return target

    def _write(
        self, lines: pl.LazyFrame, table: TableFile, columns: Mapping[str, Terms], first_row: int, target: Path
    ) -> None:
        if table is not self.core:
            is_blank = pl.all_horizontal(pl.exclude(MALFORMED_COLUMN).is_null())
            lines = lines.filter(~is_blank)
        key = pl.col(str(table.key)).fill_null("").str.strip_chars(BLANKS).alias(KEY)
        if table.kind == OCCURRENCE and table is self.core:
            lines = lines.filter(key != "")  # nothing can refer to them
        rows = lines.select(key, *(_column(table, name, terms) for name, terms in columns.items()), MALFORMED_COLUMN)
        row = (pl.col("row").cast(pl.Int64) + first_row).alias("row")
        rows.with_row_index("row").with_columns(row).sink_parquet(
            target, compression="uncompressed", statistics=False, engine="streaming"
        )

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """Turn what polars and the disk say of a text that cannot be read into ArchiveError."""
        try:
            yield
        except (pl.exceptions.PolarsError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise ArchiveError(f"{self.where} cannot be unpacked below {self.scratch}: {error}") from error
            reason = str(error).splitlines()[0]
            raise ArchiveError(f"{self.where} cannot be read ({reason}): download it again, or {ASK}") from error

    def _scan(self, table: TableFile, member: str) -> pl.LazyFrame:
        """The rows of a file: a column for each index, and MALFORMED_COLUMN."""
        if table.quote or codecs.lookup(table.encoding).name not in ("utf-8", "ascii"):
            return self._scan_rewritten(table, member)
        path = self.files.get(member)
        most, malformed = table.width, pl.lit(value=False)
        if not self.is_of_gbif:  # whose writer leaves no delimiter in a text
            most = read_field_counts(path, table)[1] + BEYOND
            malformed = pl.any_horizontal(pl.col([str(most - 1 - place) for place in range(BEYOND)]).is_not_null())
        lines = scan_table(
            path, most, skip_lines=table.header_lines, separator=table.delimiter, eol_char=table.line_end
        )
        return lines.select(*map(str, range(table.width)), malformed.alias(MALFORMED_COLUMN))

    def _scan_rewritten(self, table: TableFile, member: str) -> pl.LazyFrame:
        path = rewrite(self.files.get(member), table, self.scratch)
        lines = scan_table(path, 1 + table.width, separator=UNIT, eol_char=RECORD)
        return lines.select(
            *(pl.col(str(1 + index)).alias(str(index)) for index in range(table.width)),
            (pl.col("0").fill_null("") == MALFORMED).alias(MALFORMED_COLUMN),
        )

    def _has_foreign_bytes(self, table: TableFile, members: Sequence[str], target: Path) -> bool:
        """Whether a text that is declared as UTF-8 is not, which shows as U+FFFD in what was read of it."""
        if table.quote or codecs.lookup(table.encoding).name not in ("utf-8", "ascii"):
            return False
        texts = pl.scan_parquet(target).select(
            pl.any_horizontal(cs.string().str.contains("\ufffd", literal=True)).any()
        )
        if not texts.collect().item():
            return False
        # Publishers store U+FFFD as well, where they have lost a character: that is UTF-8.
        return not all(is_utf8(self.files.get(name)) for name in members)

    def _members(self, table: TableFile) -> list[str]:
        meta = self.files.find("meta.xml") or ""
        names = [meta.removesuffix("meta.xml") + location for location in table.locations]
        for name in names:
            if name not in self.files.sizes:
                raise ArchiveError(f"{self.where} lacks {name}, which its meta.xml names: download the archive again")
        return names


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
            raise ArchiveError(f"the meta.xml of {path} is of {files.sizes[meta]:,} bytes: {ASK}")
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
            raise ArchiveError(f"the meta.xml of {path} speaks of more than {MAX_COLUMNS:,} columns: {ASK}")
        yield archive


def _only_archive(folder: Path) -> Path | None:
    """The archive that is all there is in a folder."""
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


def scan_table(path: Path, width: int, *, separator: str, eol_char: str, skip_lines: int = 0) -> pl.LazyFrame:
    """Text without quotes as columns "0", "1", ...; rows that are too short or too long keep what they have."""
    return pl.scan_csv(
        path,
        has_header=False,
        skip_lines=skip_lines,
        separator=separator,
        quote_char=None,
        eol_char=eol_char,
        schema={str(index): pl.String for index in range(width)},
        missing_columns="insert",
        extra_columns="ignore",
        encoding="utf8-lossy",
        glob=False,
        raise_if_empty=False,
    )


def _column(table: TableFile, name: str, terms: Terms) -> pl.Expr:
    values: list[pl.Expr] = []
    for term in terms:
        if isinstance(term, str):
            values += _values(table, term)
        elif together := [value for part in term for value in _values(table, part)]:
            values.append(pl.concat_str(*map(_unless_blank, together), separator=" | ", ignore_nulls=True))
    if len(values) > 1:
        values = list(map(_unless_blank, values))
    return pl.coalesce(*values, pl.lit("")).str.strip_chars(BLANKS).alias(name)


def _values(table: TableFile, term: str) -> list[pl.Expr]:
    values = [pl.col(str(index)) for index in table.columns.get(term, ())]
    return values + ([pl.lit(table.defaults[term])] if term in table.defaults else [])


def _unless_blank(value: pl.Expr) -> pl.Expr:
    return pl.when(value.str.strip_chars(BLANKS) != "").then(value)
