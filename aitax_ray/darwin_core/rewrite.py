"""Text with quotes, or in another encoding than UTF-8, written again as what polars reads without a doubt.

Fast readers of CSV look for quotes anywhere, to work on a file from several places at once. A quote in the middle of a
field, which publishers' archives are full of, then joins or loses rows without a word. This module reads the text from
its beginning, row by row (quoted.py).
"""

import codecs
import csv
import logging
import re
import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO

from aitax_ray.darwin_core.descriptor import TableFile
from aitax_ray.darwin_core.quoted import Row, RowReader
from aitax_ray.errors import ArchiveError

log = logging.getLogger(__name__)

UNIT, RECORD = "\x1f", "\x1e"  # ASCII's own separators of fields and rows: text may hold anything else
MALFORMED = "x"  # in the first column of a row that fits the table in no way of reading
_BLANK = {ord(UNIT): " ", ord(RECORD): " "}
_RETURN = re.compile(r"\r(?!\n|\Z)")
_FOREIGN = re.compile("[\udc80-\udcff]")  # bytes that are none of the encoding, as Python's surrogateescape keeps them
BYTE_ORDER_MARK = "\ufeff"
MAX_LINE = 64 * 2**20  # characters; the longest lines of real archives have some 100,000
MAX_LINES = 500  # of a row
SAMPLE = 1000  # rows that show how many fields a row has
WIDE = 6  # columns from which on lines of prose do not have as many delimiters as a row


def rewrite(path: Path, table: TableFile, scratch: Path) -> Path:
    """Write the rows of a table, without its header, into a UTF-8 file with UNIT between fields and RECORD after rows.

    The first field of each row is MALFORMED, or "" where the row fits the table. Bytes that are none of the encoding
    are read as Windows-1252, with a warning: that is what text in a wrong encoding nearly always is. Raises
    ArchiveError when a line has more than MAX_LINE characters.
    """
    csv.field_size_limit(MAX_LINE * MAX_LINES)
    encoding = _encoding(path, table.encoding)
    errors = "replace" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
    newline = "\n" if table.line_end == "\n" else ""
    num_foreign: Counter[str] = Counter()
    with (
        path.open(encoding=encoding, errors=errors, newline=newline) as source,
        tempfile.NamedTemporaryFile("w", dir=scratch, delete=False, encoding="utf-8", newline="") as target,
    ):
        if source.read(1) != BYTE_ORDER_MARK:  # which would hide the quote behind it
            source.seek(0)
        lines = _guarded(_decoded(_lines(source, table.locations[0]), num_foreign))
        header = list(islice(lines, table.header_lines))  # lines, not rows: a header may hold an unbalanced quote
        for row in _rows(lines, table, header):
            fields = UNIT.join(["" if row.fits else MALFORMED, *row.fields])
            target.write(fields.replace(RECORD, "\r") + RECORD)
    if num_foreign["lines"]:
        log.warning(
            "%s is not all in %s: %s lines have bytes of another encoding, which are read as Windows-1252",
            table.locations[0], encoding, f"{num_foreign['lines']:,}",
        )  # fmt: skip
    return Path(target.name)


def read_field_counts(path: Path, table: TableFile) -> tuple[int, int]:
    """How many fields most rows of a text without quotes have, and how many a row may have; see `count_fields`."""
    with path.open(encoding="utf-8", errors="replace", newline="" if table.line_end == "\r" else "\n") as source:
        lines = list(islice(_lines(source, table.locations[0]), table.header_lines + SAMPLE))
    header, rows = lines[: table.header_lines], lines[table.header_lines :]
    return count_fields(header[-1] if header else "", _count_each(rows, table), table)


def is_utf8(path: Path) -> bool:
    """Whether a whole file is UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        try:
            while chunk := file.read(1 << 22):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def count_fields(header: str, counts: Counter[int], table: TableFile) -> tuple[int, int]:
    """How many fields most rows have, and how many a row may have: those of the header or of meta.xml, if more.

    `counts` has the rows by their number of fields; the header counts as one of them.
    """
    of_header = header.rstrip("\r\n").count(table.delimiter) + 1
    counts = counts + Counter([of_header] if header else [])
    usual = max(counts, key=lambda number: (counts[number], number), default=table.width)
    return usual, max(usual, table.width, of_header)


def _count_each(lines: Iterable[str], table: TableFile) -> Counter[int]:
    return Counter(line.rstrip("\r\n").count(table.delimiter) + 1 for line in lines if line.strip())


def _encoding(path: Path, declared: str) -> str:
    """The encoding as declared, or the one that a byte order mark shows."""
    with path.open("rb") as file:
        begin = file.read(4)
    if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and codecs.lookup(declared).name == "utf-8":
        return "utf-16"
    return codecs.lookup(declared).name


def _lines(source: IO[str], name: str) -> Iterator[str]:
    while line := source.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise ArchiveError(f"{name} has a line of more than {MAX_LINE:,} characters: it is no table of occurrences")
        yield line


def _decoded(lines: Iterable[str], num_foreign: Counter[str]) -> Iterator[str]:
    for line in lines:
        if _FOREIGN.search(line):
            num_foreign["lines"] += 1
            line = _FOREIGN.sub(_as_windows_1252, line)
        yield line


def _as_windows_1252(found: re.Match[str]) -> str:
    byte = bytes([ord(found[0]) - 0xDC00])
    try:
        return byte.decode("cp1252")
    except UnicodeDecodeError:  # five bytes have no character there
        return byte.decode("latin-1")


def _rows(lines: Iterator[str], table: TableFile, header: list[str]) -> Iterator[Row]:
    sample = list(islice(lines, SAMPLE))
    of_header = header[-1] if header else ""
    if not table.quote:
        _, most = count_fields(of_header, _count_each(sample, table), table)
        for line in chain(sample, lines):
            if text := line.rstrip("\r\n"):
                fields = text.split(table.delimiter)
                yield Row(fields, len(fields) <= most)
        return
    # A quote may hide a delimiter: the lines that RFC 4180 can read alone show the number of fields.
    counter = RowReader(table.delimiter, table.quote, 0, 0)
    counts = Counter(number for line in sample if (number := counter.count_strictly(line)))
    reader = RowReader(table.delimiter, table.quote, *count_fields(of_header, counts, table))
    yield from _records(chain(sample, lines), table, reader)


def _records(lines: Iterator[str], table: TableFile, reader: RowReader) -> Iterator[Row]:
    """The rows of quoted text. A quote that opens and does not close is a character, and damages its own row only.

    It closes when the row ends within MAX_LINES lines, is proper CSV or has the usual number of fields, and its lines
    do not look like rows; else it might close at the next quote, rows later, and swallow them.
    """
    waiting: deque[str] = deque()
    num_stray = 0
    while line := waiting.popleft() if waiting else next(lines, ""):
        record = [line]
        row = reader.read(line)
        while row is None:
            following = waiting.popleft() if waiting else next(lines, "")
            if not following or len(record) >= MAX_LINES:
                waiting.extendleft(reversed([following] if following else []))
                break
            record.append(following)
            # No quote closes in a line without one what an earlier line has opened.
            row = reader.read("".join(record)) if table.quote in following else None
        if row and row.fields == [""]:
            continue
        if row is None or (len(record) > 1 and not _is_one_row(record, row, reader)):
            num_stray += 1
            waiting.extendleft(reversed(record[1:]))
            row = reader.read_alone(record[0])
        yield row
    if num_stray:
        log.warning("%s has %s rows with a quote that does not close", table.locations[0], f"{num_stray:,}")


def _is_one_row(record: list[str], row: Row, reader: RowReader) -> bool:
    """Whether several lines are one row: they are no rows themselves, and the quotes close as they should.

    The number of fields alone tells nothing: rows may be short, and what begins and ends in one column has all of them.
    """
    if reader.most >= WIDE and all(line.count(reader.delimiter) >= reader.most - 1 for line in record):
        return False
    try:
        return next(csv.reader(record, reader.dialect, strict=True)) == row.fields
    except csv.Error:
        is_row = (reader.count_strictly(line) == reader.usual for line in record[1:])
        return row.fits and len(row.fields) == reader.usual and not any(is_row)


def _guarded(lines: Iterable[str]) -> Iterator[str]:
    """Lines without our own separators, RECORD in the place of a carriage return in the middle of a line.

    Python's reader would begin a new row there, wherever the lines are said to end.
    """
    for line in lines:
        clean = line.translate(_BLANK) if UNIT in line or RECORD in line else line
        yield _RETURN.sub(RECORD, clean) if "\r" in clean else clean
