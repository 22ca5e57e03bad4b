"""Text with quotes, or in another encoding than UTF-8, written again as what polars reads without a doubt.

Fast readers of CSV look for quotes anywhere, to work on a file from several places at once; a quote in the middle of a
field, which publishers' archives are full of, then joins or loses rows without a word. Python's reader goes through
the text from its beginning, where a quote means something only at the beginning of a field.
"""

import csv
import logging
import re
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from aitax_ray.darwin_core.descriptor import TableFile

log = logging.getLogger(__name__)

UNIT, RECORD = "\x1f", "\x1e"  # ASCII's own separators of fields and rows: text may hold anything else
_BLANK = {ord(UNIT): " ", ord(RECORD): " "}
_RETURN = re.compile(r"\r(?!\n|\Z)")
BYTE_ORDER_MARK = "\ufeff"
MAX_FIELD = 2**31 - 1
MAX_LINES = 500  # of a row
WIDE = 6  # columns from which on lines of prose do not have as many delimiters as a row


def rewrite(path: Path, table: TableFile, scratch: Path) -> Path:
    """Write the rows of a table, without its header, into a UTF-8 file with UNIT between fields and RECORD after rows.

    Bytes that are none of the encoding become U+FFFD.
    """
    csv.field_size_limit(MAX_FIELD)
    newline = "\n" if table.line_end == "\n" else ""
    with (
        path.open(encoding=table.encoding, errors="replace", newline=newline) as source,
        tempfile.NamedTemporaryFile("w", dir=scratch, delete=False, encoding="utf-8", newline="") as target,
    ):
        if source.read(1) != BYTE_ORDER_MARK:  # which would hide the quote behind it
            source.seek(0)
        for _ in range(table.header_lines):
            source.readline()  # lines, not rows: a header may hold an unbalanced quote
        if table.quote:
            rows = _records(_guarded(source), table)
        else:
            rows = csv.reader(_guarded(source), delimiter=table.delimiter, quoting=csv.QUOTE_NONE)
        target.writelines(UNIT.join(row).replace(RECORD, "\r") + RECORD for row in rows if row)
    return Path(target.name)


def _records(lines: Iterator[str], table: TableFile) -> Iterator[list[str]]:
    """The rows of quoted text. A quote that opens and does not close is a character, and damages its own row only.

    It closes when the row ends within MAX_LINES lines, is proper CSV and its lines do not look like whole rows; else
    it might close at the next quote, rows later, and swallow them.
    """
    waiting: deque[str] = deque()
    num_stray = 0
    while line := waiting.popleft() if waiting else next(lines, ""):
        record = [line]
        while not (row := _closed(record, table)):
            following = waiting.popleft() if waiting else next(lines, "")
            if not following or len(record) >= MAX_LINES:
                waiting.extendleft(reversed([following] if following else []))
                break
            record.append(following)
        if row == [""]:
            continue
        if not row or (len(record) > 1 and not _is_proper(record, row, table)):
            num_stray += 1
            waiting.extendleft(reversed(record[1:]))
            row = next(csv.reader(record[:1], delimiter=table.delimiter, quoting=csv.QUOTE_NONE))
        yield row
    if num_stray:
        log.warning("%s has %s rows with a quote that does not close", table.locations[0], f"{num_stray:,}")


def _closed(record: list[str], table: TableFile) -> list[str]:
    """The fields of a record, [] when it goes on in the next line."""
    last = record[-1]
    if table.quote not in last:
        if len(record) > 1:
            return []  # no quote closes here what an earlier line has opened
        return last.rstrip("\r\n").split(table.delimiter)
    rows = list(csv.reader([*record, "\n", "end\n"], delimiter=table.delimiter, quotechar=table.quote))
    return rows[0] if len(rows) > 1 else []


def _is_proper(record: list[str], row: list[str], table: TableFile) -> bool:
    """Whether several lines are one row: they are no rows themselves, and a delimiter follows each quote that closes.

    The number of fields tells nothing: rows may be short, and what begins and ends in one column has all of them.
    """
    if table.width >= WIDE and all(line.count(table.delimiter) >= table.width - 1 for line in record):
        return False
    try:
        return next(csv.reader(record, delimiter=table.delimiter, quotechar=table.quote, strict=True)) == row
    except csv.Error:
        return False


def _guarded(lines: Iterable[str]) -> Iterator[str]:
    """Lines without our own separators, RECORD in the place of a carriage return in the middle of a line.

    Python's reader would begin a new row there, wherever the lines are said to end.
    """
    for line in lines:
        clean = line.translate(_BLANK) if UNIT in line or RECORD in line else line
        yield _RETURN.sub(RECORD, clean) if "\r" in clean else clean
