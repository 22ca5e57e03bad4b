"""Text with quotes, or in another encoding than UTF-8, written again as what polars reads without a doubt.

Fast readers of CSV look for quotes anywhere, to work on a file from several places at once; a quote in the middle of a
field, which publishers' archives are full of, then joins or loses rows without a word. Python's reader goes through
the text from its beginning, where a quote means something only at the beginning of a field.
"""

import csv
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from aitax_ray.gbif.descriptor import TableFile

UNIT, RECORD = "\x1f", "\x1e"  # ASCII's own separators of fields and rows: text may hold anything else
_BLANK = {ord(UNIT): " ", ord(RECORD): " "}
_RETURN = re.compile(r"\r(?!\n|\Z)")
BYTE_ORDER_MARK = "\ufeff"
MAX_FIELD = 2**31 - 1


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
            rows = csv.reader(_guarded(source), delimiter=table.delimiter, quotechar=table.quote)
        else:
            rows = csv.reader(_guarded(source), delimiter=table.delimiter, quoting=csv.QUOTE_NONE)
        target.writelines(UNIT.join(row).replace(RECORD, "\r") + RECORD for row in rows if row)
    return Path(target.name)


def _guarded(lines: Iterable[str]) -> Iterator[str]:
    """Lines without our own separators, RECORD in the place of a carriage return in the middle of a line.

    Python's reader would begin a new row there, wherever the lines are said to end.
    """
    for line in lines:
        clean = line.translate(_BLANK) if UNIT in line or RECORD in line else line
        yield _RETURN.sub(RECORD, clean) if "\r" in clean else clean
