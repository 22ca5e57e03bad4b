"""The tables of an archive: their text read into Parquet files by term.

The text is read as a stream, and only the columns that are asked for are kept. So an archive of millions of occurrences
takes the memory that a small one takes.
"""

import codecs
import contextlib
import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs
import pyarrow.parquet as pq

from aitax_ray.darwin_core.descriptor import OCCURRENCE, TableFile
from aitax_ray.darwin_core.rewrite import (
    MALFORMED,
    RECORD,
    UNIT,
    ends_lines_with_returns,
    find_encoding,
    is_utf8,
    read_field_counts,
    rewrite,
)
from aitax_ray.darwin_core.unpack import Files
from aitax_ray.errors import ArchiveError

log = logging.getLogger(__name__)

KEY = "core_id"  # the id of the core's row that a row belongs to
MALFORMED_COLUMN = "is_malformed"
ASK = "on gbif.org, download the occurrences (with images) in format Darwin Core Archive"
BEYOND = 3  # columns after the last one, in which a row that is too long shows
BLANKS = " \t\r\n\v\f\x00\u00a0\u200b\ufeff"
PIECE = 8 * 2**20  # bytes of text that are read at a time: they stay in the processor's cache
LARGE_BYTES = 100_000_000  # of a table that takes so long that the log says so
Terms = Sequence[str | tuple[str, ...]]


@dataclass(frozen=True)
class TableReader:
    """Reads tables of the archive `where` into `scratch`. With `is_regular` no text holds a delimiter."""

    files: Files
    where: str
    scratch: Path
    is_regular: bool = False

    def read(
        self, table: TableFile, columns: Mapping[str, Terms], *, first_row: int = 0, is_core: bool = False
    ) -> Path:
        """Read a table into a Parquet file in `scratch`: `row`, `core_id`, these columns, and `is_malformed`.

        `columns` leads from a name to the terms that fill it: the first term that is not empty; terms in a tuple are
        joined. Columns are text without blanks around it, "" where there is nothing. `row` counts from `first_row`;
        lines with nothing in any column are no rows. `is_malformed` is true for a row that fits the table in no way of
        reading, whose values may belong to other columns. Raises ArchiveError when the text cannot be read.
        """
        members = self._members(table)
        size = sum(self.files.sizes[name] for name in members)
        if size > LARGE_BYTES:
            log.info("reading %s of %s MB", ", ".join(members[:3]), f"{size / 1e6:,.0f}")
        target = self.scratch / f"table-{uuid.uuid4().hex}.parquet"  # tables are read side by side
        if self.is_regular and _is_plain(table):
            # No text of it holds a delimiter, so a line is a row.
            with self._readable():
                if self._write_pieces(table, members, columns, first_row, target, is_core=is_core):
                    return target
        with self._readable():
            lines = pl.concat([self._scan(table, name) for name in members])
            self._write(lines, table, columns, first_row, target, is_core=is_core)
            if self._has_foreign_bytes(table, members, target):
                lines = pl.concat([self._scan_rewritten(table, self.files.get(name)) for name in members])
                self._write(lines, table, columns, first_row, target, is_core=is_core)
            found = pl.scan_parquet(target).select(pl.col(MALFORMED_COLUMN).sum()).collect()
        if num_malformed := int(found.item() or 0):
            log.warning(
                "%s: %s rows have more or fewer columns than the table, whichever way their quotes are read: "
                "they are left out",
                ", ".join(members[:3]), f"{num_malformed:,}",
            )  # fmt: skip
        return target

    def _write(
        self,
        lines: pl.LazyFrame,
        table: TableFile,
        columns: Mapping[str, Terms],
        first_row: int,
        target: Path,
        *,
        is_core: bool,
    ) -> None:
        rows = _select(lines, table, columns, is_core=is_core)
        row = (pl.col("row").cast(pl.Int64) + first_row).alias("row")
        rows.with_row_index("row").with_columns(row).sink_parquet(
            target, compression="uncompressed", statistics=False, engine="streaming"
        )

    def _write_pieces(
        self,
        table: TableFile,
        members: Sequence[str],
        columns: Mapping[str, Terms],
        first_row: int,
        target: Path,
        *,
        is_core: bool,
    ) -> bool:
        """Read a table while it is unpacked, without a copy of its text on disk; False when that is not UTF-8."""
        row = first_row
        writer: pq.ParquetWriter | None = None
        with contextlib.ExitStack() as stack:
            for lines in self._scan_pieces(table, members):
                wanted = _select(lines, table, columns, is_core=is_core).with_row_index("row", offset=row)
                try:
                    rows = wanted.with_columns(pl.col("row").cast(pl.Int64)).collect()
                except pl.exceptions.ComputeError:  # it may be damaged in another way too: then reading it again fails
                    return False
                row += rows.height
                found = rows.to_arrow()
                if writer is None:
                    plain: dict[str, Any] = {"compression": "none", "write_statistics": False, "use_dictionary": False}
                    writer = stack.enter_context(pq.ParquetWriter(target, found.schema, **plain))
                writer.write_table(found)
        return writer is not None

    def _scan_pieces(self, table: TableFile, members: Sequence[str]) -> Iterator[pl.LazyFrame]:
        for member in members:
            skip = table.header_lines
            for piece in _whole_lines(self.files.stream(member), table.line_end.encode()):
                lines = scan_table(
                    piece,
                    table.width,
                    skip_lines=skip,
                    separator=table.delimiter,
                    eol_char=table.line_end,
                    lossy=False,
                )
                skip = 0
                yield lines.with_columns(pl.lit(value=False).alias(MALFORMED_COLUMN))

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """Turn what polars, the decoder and the disk say of a text that cannot be read into ArchiveError."""
        try:
            yield
        except (pl.exceptions.PolarsError, OSError, UnicodeError) as error:
            if isinstance(error, OSError) and error.errno:
                raise ArchiveError(f"{self.where} cannot be unpacked below {self.scratch}: {error}") from error
            reason = str(error).splitlines()[0]
            raise ArchiveError(f"{self.where} cannot be read ({reason}): download it again, or {ASK}") from error

    def _scan(self, table: TableFile, member: str) -> pl.LazyFrame:
        """The rows of a file: a column for each index, and MALFORMED_COLUMN."""
        path = self.files.get(member)
        is_as_declared = find_encoding(path, table.encoding) == codecs.lookup(table.encoding).name
        if not _is_plain(table) or not is_as_declared or ends_lines_with_returns(path):
            return self._scan_rewritten(table, path)
        most, malformed = table.width, pl.lit(value=False)
        if not self.is_regular:
            most = read_field_counts(path, table)[1] + BEYOND
            malformed = pl.any_horizontal(pl.col([str(most - 1 - place) for place in range(BEYOND)]).is_not_null())
        lines = scan_table(
            path, most, skip_lines=table.header_lines, separator=table.delimiter, eol_char=table.line_end
        )
        return lines.select(*map(str, range(table.width)), malformed.alias(MALFORMED_COLUMN))

    def _scan_rewritten(self, table: TableFile, path: Path) -> pl.LazyFrame:
        rewritten = rewrite(path, table, self.scratch)
        lines = scan_table(rewritten, 1 + table.width, separator=UNIT, eol_char=RECORD)
        return lines.select(
            *(pl.col(str(1 + index)).alias(str(index)) for index in range(table.width)),
            (pl.col("0").fill_null("") == MALFORMED).alias(MALFORMED_COLUMN),
        )

    def _has_foreign_bytes(self, table: TableFile, members: Sequence[str], target: Path) -> bool:
        """Whether a text that is declared as UTF-8 is not, which shows as U+FFFD in what was read of it."""
        if not _is_plain(table):
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
        names = [meta[: -len("meta.xml")] + location for location in table.locations]
        found = {name.lower(): name for name in self.files.sizes} | {name: name for name in self.files.sizes}
        for name in names:
            if name not in found and name.lower() not in found:
                raise ArchiveError(f"{self.where} lacks {name}, which its meta.xml names: download the archive again")
        return [found.get(name) or found[name.lower()] for name in names]


def _is_plain(table: TableFile) -> bool:
    """Whether a table is declared as UTF-8 without quotes."""
    return not table.quote and codecs.lookup(table.encoding).name in ("utf-8", "ascii")


def _whole_lines(pieces: Iterable[bytes], end: bytes) -> Iterator[bytes]:
    """Join pieces to some of PIECE bytes that end with a line."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= PIECE and (cut := piece.rfind(end) + 1):
            waiting[-1] = piece[:cut]
            yield b"".join(waiting)
            waiting, size = [piece[cut:]], len(piece) - cut
    if rest := b"".join(waiting):
        yield rest


def _select(lines: pl.LazyFrame, table: TableFile, columns: Mapping[str, Terms], *, is_core: bool) -> pl.LazyFrame:
    """The rows of the lines of a table: `core_id`, the columns, and `is_malformed`."""
    if not is_core:
        is_blank = pl.all_horizontal(pl.exclude(MALFORMED_COLUMN).is_null())
        lines = lines.filter(~is_blank)
    key = pl.col(str(table.key)).fill_null("").str.strip_chars(BLANKS).alias(KEY)
    if table.kind == OCCURRENCE and is_core:
        lines = lines.filter(key != "")  # nothing can refer to them
    return lines.select(key, *(_column(table, name, terms) for name, terms in columns.items()), MALFORMED_COLUMN)


def scan_table(
    text: Path | bytes, width: int, *, separator: str, eol_char: str, skip_lines: int = 0, lossy: bool = True
) -> pl.LazyFrame:
    """Text without quotes as columns "0", "1", ...; rows that are too short or too long keep what they have.

    Bytes that are not UTF-8 become U+FFFD if `lossy`; else collecting raises PolarsError.
    """
    return pl.scan_csv(
        text,
        has_header=False,
        skip_lines=skip_lines,
        separator=separator,
        quote_char=None,
        eol_char=eol_char,
        schema={str(index): pl.String for index in range(width)},
        missing_columns="insert",
        extra_columns="ignore",
        encoding="utf8-lossy" if lossy else "utf8",
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
    values = [pl.col(str(index)) for index in table.find_columns(term)]
    return values + list(map(pl.lit, table.find_defaults(term)))


def _unless_blank(value: pl.Expr) -> pl.Expr:
    return pl.when(value.str.strip_chars(BLANKS) != "").then(value)
