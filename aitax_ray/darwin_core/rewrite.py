"""Rewrites tables that have quotes or are not UTF-8 into a form that polars always reads correctly.

Publishers' archives have many quotes in the middle of fields. Fast readers of CSV start at several places of a file at
once and guess from the quotes where rows begin. With such quotes they join or lose rows without an error. This module
reads the text from its beginning, row by row (quoted.py).
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
from aitax_ray.darwin_core.unpack import BEGIN, has_only_returns
from aitax_ray.errors import ArchiveError

log = logging.getLogger(__name__)

UNIT, RECORD = "\x1f", "\x1e"  # ASCII's characters for the end of a field and of a row; removed from the text
MALFORMED = "x"  # in the first column of a row that does not fit the table, however it is read
_BLANK = {ord(UNIT): " ", ord(RECORD): " "}
_RETURN = re.compile(r"\r(?!\n|\Z)")
_FOREIGN = re.compile(
    "[\udc80-\udcff]"
)  # bytes that are invalid in the encoding, as Python's surrogateescape keeps them
_LATIN_1 = frozenset({"iso8859-1", "cp1252", "iso8859-15"})
_OFTEN_WRONG = _LATIN_1 | {
    "utf-8",
    "ascii",
    "utf-16",
    "utf-32",
}  # encodings that meta.xml often declares for a text in another one
_UTF_16_ZEROS = ([True, False, True, False], [False, True, False, True])  # which bytes of the first letters are zero
BYTE_ORDER_MARK = "\ufeff"
MAX_LINE = 64 * 2**20  # characters of a line; the longest lines of real archives have about 100,000
MAX_LINES = 500  # lines of a row
SAMPLE = 1000  # rows from which the number of fields is counted
WIDE = 6  # columns; a line of prose inside a field of such a table has fewer delimiters than a row


def rewrite(path: Path, table: TableFile, scratch: Path) -> Path:
    """Write the rows of a table, without its header, into a UTF-8 file with UNIT between fields and RECORD after rows.

    The first field of each row is MALFORMED, or "" where the row fits the table. Bytes that are invalid in the encoding
    are read as Windows-1252, with a warning: text with a wrong declaration is nearly always in that encoding. Raises
    ArchiveError when a line has more than MAX_LINE characters.
    """
    csv.field_size_limit(MAX_LINE * MAX_LINES)
    encoding = find_encoding(path, table.encoding)
    declared = codecs.lookup(table.encoding).name
    if encoding not in (declared, "cp1252"):
        log.warning("%s is declared as %s, but it is in %s: so it is read", table.locations[0], declared, encoding)
    errors = "replace" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
    newline = "\n" if table.line_end == "\n" and not ends_lines_with_returns(path) else ""
    num_foreign: Counter[str] = Counter()
    with (
        path.open(encoding=encoding, errors=errors, newline=newline) as source,
        tempfile.NamedTemporaryFile(
            "w", dir=scratch, delete=False, encoding="utf-8", errors="replace", newline=""
        ) as target,
    ):
        if source.read(1) != BYTE_ORDER_MARK:  # a quote after the mark would not be at the beginning of a field
            source.seek(0)
        lines = _without_separators(_decoded(_lines(source, table.locations[0]), num_foreign))
        header = list(islice(lines, table.header_lines))  # lines, not rows: a header may have a quote that never closes
        for row in _rows(lines, table, header):
            fields = UNIT.join(["" if row.fits else MALFORMED, *row.fields])
            target.write(fields.replace(RECORD, "\r") + RECORD)
    if num_foreign["lines"]:
        log.warning(
            "%s is declared as %s, but %s lines have other bytes: these are read as Windows-1252",
            table.locations[0], encoding, f"{num_foreign['lines']:,}",
        )  # fmt: skip
    return Path(target.name)


def read_field_counts(path: Path, table: TableFile) -> tuple[int, int]:
    """Count the fields of a table without quotes. Returns what `count_fields` returns."""
    with path.open(encoding="utf-8", errors="replace", newline="" if table.line_end == "\r" else "\n") as source:
        lines = list(islice(_lines(source, table.locations[0]), table.header_lines + SAMPLE))
    header, rows = lines[: table.header_lines], lines[table.header_lines :]
    return count_fields(header[-1] if header else "", _count_each(rows, table), table)


def is_utf8(path: Path, *, is_ascii: bool = False) -> bool:
    """Whether a file is valid UTF-8, or ASCII, from beginning to end."""
    decoder = codecs.getincrementaldecoder("ascii" if is_ascii else "utf-8")()
    with path.open("rb") as file:
        try:
            while chunk := file.read(1 << 22):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def count_fields(header: str, counts: Counter[int], table: TableFile) -> tuple[int, int]:
    """Return the number of fields of most rows, and the largest number that a row may have.

    The second number is the largest of the first number, the fields of the header, and the columns in meta.xml.
    `counts` maps each number of fields to the number of rows that have it. The header is added to it as a row.
    """
    of_header = header.rstrip("\r\n").count(table.delimiter) + 1
    counts = counts + Counter([of_header] if header else [])
    usual = max(counts, key=lambda number: (counts[number], number), default=table.width)
    return usual, max(usual, table.width, of_header)


def _count_each(lines: Iterable[str], table: TableFile) -> Counter[int]:
    return Counter(line.rstrip("\r\n").count(table.delimiter) + 1 for line in lines if line.strip())


def find_encoding(path: Path, declared: str) -> str:
    """The encoding as declared, or the one that the bytes show.

    A byte order mark, or a zero byte in each letter, shows UTF-16. A text that is declared as Latin-1 is in UTF-8 if
    all of it is valid UTF-8, which other text nearly never is by chance; else it is in Windows-1252, as on the web
    (https://encoding.spec.whatwg.org/#names-and-labels). UTF-16 and UTF-32 without a mark are UTF-8.
    """
    name = codecs.lookup(declared).name
    if name not in _OFTEN_WRONG:
        return name
    with path.open("rb") as file:
        begin = file.read(4)
    if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and begin != codecs.BOM_UTF32_LE:
        return "utf-16"
    if len(begin) == len(_UTF_16_ZEROS[0]) and (zeros := [byte == 0 for byte in begin]) in _UTF_16_ZEROS:
        return "utf-16-be" if zeros[0] else "utf-16-le"
    if name in ("utf-16", "utf-32"):
        return name if begin in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE) else "utf-8"
    if name in _LATIN_1 and not is_utf8(path, is_ascii=True) and is_utf8(path):
        return "utf-8"
    return "cp1252" if name == "iso8859-1" else name


def ends_lines_with_returns(path: Path) -> bool:
    """Whether a file has carriage returns in place of line feeds."""
    with path.open("rb") as file:
        return has_only_returns(file.read(BEGIN))


def _lines(source: IO[str], name: str) -> Iterator[str]:
    while line := source.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise ArchiveError(f"{name} has a line of more than {MAX_LINE:,} characters: it is not a table of text")
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
    except UnicodeDecodeError:  # five bytes have no character in Windows-1252
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
    # Delimiters between quotes do not separate fields. So only lines that are complete rows of RFC 4180 are counted.
    counter = RowReader(table.delimiter, table.quote, 0, 0)
    counts = Counter(number for line in sample if (number := counter.count_strictly(line)))
    reader = RowReader(table.delimiter, table.quote, *count_fields(of_header, counts, table))
    yield from _records(chain(sample, lines), table, reader)


def _records(lines: Iterator[str], table: TableFile, reader: RowReader) -> Iterator[Row]:
    """Yield the rows of quoted text.

    A quote that opens a field and never closes would join many rows. So several lines become one row only if they are
    at most MAX_LINES, if the row is valid CSV or has the usual number of fields, and if none of the lines looks like a
    row itself. Otherwise the quote is taken as a character, and the row ends with its first line.
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
            # A line without a quote cannot close the field that is open.
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
    """Whether several lines are one row: none of them is a row itself, and the quotes close correctly.

    The number of fields is not enough. A correct row may have fewer fields than usual. And if a quote opens in one row
    and closes in the same column of a later row, the joined row has the usual number.
    """
    if reader.most >= WIDE and all(line.count(reader.delimiter) >= reader.most - 1 for line in record):
        return False
    try:
        return next(csv.reader(record, reader.dialect, strict=True)) == row.fields
    except csv.Error:
        is_row = (reader.count_strictly(line) == reader.usual for line in record[1:])
        return row.fits and len(row.fields) == reader.usual and not any(is_row)


def _without_separators(lines: Iterable[str]) -> Iterator[str]:
    """Replace UNIT and RECORD in the text by blanks, and each carriage return in the middle of a line by RECORD.

    Python's csv reader ends a row at any carriage return. `rewrite` puts the carriage return back.
    """
    for line in lines:
        clean = line.translate(_BLANK) if UNIT in line or RECORD in line else line
        yield _RETURN.sub(RECORD, clean) if "\r" in clean else clean
