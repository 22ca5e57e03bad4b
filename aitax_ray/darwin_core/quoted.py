"""Reads one row of quoted text in several ways, and chooses the way that fits the table.

A quote closes a field only before a delimiter or a line end. Every other quote inside a field is text. Publishers
write quotes inside fields in three ways: doubled (RFC 4180), after a backslash, or unchanged. If none of these ways
gives a row that fits the table, the row is malformed. Its values are not used: they may belong to other columns.
"""

import csv
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import islice


@dataclass(frozen=True)
class Row:
    """The fields of a row. `fits` is false where they may be in wrong columns."""

    fields: list[str]
    fits: bool = True


@dataclass(frozen=True)
class RowReader:
    """Reads the rows of a table. Most rows have `usual` fields, and no row has more than `most`."""

    delimiter: str
    quote: str
    usual: int
    most: int

    def read(self, text: str) -> Row | None:
        """Read a row from one line or several, line ends included; None where a quote is open at the end.

        RFC 4180 is tried first. Where it says that the row continues in the next line, no other way is tried.
        """
        if self.quote not in text:
            fields = text.rstrip("\r\n").split(self.delimiter)
            return Row(fields, len(fields) <= self.most)
        fields = self._read_strictly(text)
        if len(fields) == self.usual:
            return Row(fields)
        if self._is_open(text):
            return None
        # A row that has the usual number of fields only without its quotes: one of them may have swallowed a delimiter.
        is_open_to_doubt = len(fields) < self.usual == text.count(self.delimiter) + 1
        is_read = bool(fields) and len(fields) <= self.most and not is_open_to_doubt
        return self._read_loosely(text) or Row(fields or text.rstrip("\r\n").split(self.delimiter), is_read)

    def read_alone(self, line: str) -> Row:
        """Read one line as a row, although RFC 4180 says that a quote is open at its end."""
        fields = line.rstrip("\r\n").split(self.delimiter)
        return self._read_loosely(line) or Row(fields, len(fields) == self.usual)

    def count_strictly(self, line: str) -> int:
        """The number of fields as RFC 4180 reads the line, 0 where it cannot or the line is blank."""
        return len(self._read_strictly(line)) if line.strip() else 0

    def _read_loosely(self, text: str) -> Row | None:
        """Read with quotes that are not doubled; None where no way of reading gives the usual number of fields."""
        readings = [found for reading in self._readings if (found := self._read(text, reading))]
        for is_sure in (True, False):
            fitting = [found for found in readings if found.is_sure >= is_sure and len(found.fields) == self.usual]
            if fitting:
                # Two ways may differ only in a backslash and still agree on the columns. The last one removes it.
                return Row(fitting[-1].fields, all(found.ends == fitting[0].ends for found in fitting))
        return None

    def _is_open(self, text: str) -> bool:
        rows = csv.reader([*text.splitlines(keepends=True), "\n", "end\n"], self.dialect)
        return len(list(islice(rows, 2))) < 2

    def _read_strictly(self, line: str) -> list[str]:
        """Read as RFC 4180 says, with quotes in unquoted fields as text; [] where that is not possible."""
        try:
            rows = list(csv.reader(line.splitlines(keepends=True), self.dialect, strict=True))
        except csv.Error:
            return []
        return rows[0] if len(rows) == 1 else []

    @cached_property
    def dialect(self) -> type[csv.Dialect]:
        """The dialect as the standard library describes one."""
        names = {"delimiter": self.delimiter, "quotechar": self.quote, "lineterminator": "\n", "doublequote": True}
        return type("Dialect", (csv.excel,), names)

    @cached_property
    def _readings(self) -> list[tuple[re.Pattern[str], bool]]:
        """A pattern for a quoted field, and whether a backslash makes the next quote text; the likeliest first."""
        delimiter, quote = re.escape(self.delimiter), re.escape(self.quote)
        closes = rf"(?={delimiter}|\r?\n?\Z)"
        patterns = []
        for blanks in ("", "[ ]*"):
            for backslash in (False, True):
                plain = rf"[^{quote}\\]++|\\{quote}|\\" if backslash else rf"[^{quote}]++"
                end = rf"{quote}{blanks}{closes}"
                content = rf"(?:{plain}|{quote}{quote}|(?!{end}){quote})*+"
                patterns.append((re.compile(rf"{blanks}{quote}({content}){end}", re.DOTALL), backslash))
        return patterns

    def _read(self, line: str, reading: tuple[re.Pattern[str], bool]) -> "_Reading | None":
        """Read in one of several ways; None where a quoted field has no end."""
        pattern, backslash = reading
        fields: list[str] = []
        ends: list[int] = []
        is_sure, at, end = True, 0, len(line.rstrip("\r\n"))
        while True:
            if found := pattern.match(line, at):
                text = found[1].replace(self.quote * 2, self.quote)
                fields.append(text.replace(f"\\{self.quote}", self.quote) if backslash else text)
                at = found.end()
            else:
                stop = line.find(self.delimiter, at, end)
                text = line[at : stop if stop >= 0 else end]
                if "\n" in text:
                    return None
                if text.lstrip(" ").startswith(self.quote):
                    if text.count(self.quote) == 1:
                        return None
                    is_sure = False  # such as `"a" frog`
                fields.append(text)
                at = stop if stop >= 0 else end
            ends.append(at)
            if at >= end:
                return _Reading(fields, ends, is_sure)
            at += len(self.delimiter)


@dataclass(frozen=True)
class _Reading:
    """The result of one way of reading. `is_sure` is false if a field begins with a quote but is not a quoted field."""

    fields: list[str]
    ends: list[int]
    is_sure: bool
