"""meta.xml: which file of a Darwin Core Archive holds which table, and in which column which term is.

Source: https://dwc.tdwg.org/text/, "Darwin Core text guide". The names in a file's header line are not used.
"""

import codecs
import re
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from aitax_ray.errors import ArchiveError

MAX_BYTES = 10 * 2**20
OCCURRENCE = "http://rs.tdwg.org/dwc/terms/Occurrence"
MULTIMEDIA = "http://rs.gbif.org/terms/1.0/Multimedia"
AUDUBON = "http://rs.tdwg.org/ac/terms/Multimedia"
ESCAPES = {"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\r\\n": "\n", "\r\n": "\n"}


@dataclass(frozen=True)
class TableFile:
    """A table as meta.xml describes it: `columns` from a term's local name to its index, `key` the index of the id."""

    row_type: str
    locations: tuple[str, ...]
    key: int
    columns: dict[str, int]
    defaults: dict[str, str]
    delimiter: str
    quote: str
    line_end: str
    encoding: str
    header_lines: int


@dataclass(frozen=True)
class Descriptor:
    """The tables of an archive."""

    core: TableFile
    extensions: tuple[TableFile, ...]

    def extension(self, row_type: str) -> TableFile | None:
        """The extension with rows of that type."""
        return next((e for e in self.extensions if e.row_type.lower() == row_type.lower()), None)


def parse_xml(data: bytes) -> ElementTree.Element:
    """Parse XML without entities of its own (ElementTree never fetches external ones). Raises ValueError."""
    if re.search(rb"<!(DOCTYPE|ENTITY)", data):
        raise ValueError("it declares entities")
    try:
        # Some writers begin with a blank line, which XML forbids before its declaration.
        return ElementTree.fromstring(data.removeprefix(codecs.BOM_UTF8).lstrip())
    except (ElementTree.ParseError, LookupError) as error:
        raise ValueError(str(error)) from error


def parse_meta(data: bytes, where: str) -> Descriptor:
    """Read meta.xml. Raises ArchiveError, in which `where` names the archive."""
    try:
        root = parse_xml(data)
        core = next(e for e in root if _local(e.tag) == "core")
        extensions = [e for e in root if _local(e.tag) == "extension"]
        return Descriptor(_table(core), tuple(_table(e) for e in extensions))
    except StopIteration:
        raise ArchiveError(f"the meta.xml of {where} names no core: it is no Darwin Core Archive") from None
    except ValueError as error:
        raise ArchiveError(f"the meta.xml of {where} cannot be read ({error}): download the archive again") from error


def _table(element: ElementTree.Element) -> TableFile:
    columns: dict[str, int] = {}
    defaults: dict[str, str] = {}
    for field in (e for e in element if _local(e.tag) == "field"):
        term = _local(field.get("term", ""))
        if (index := field.get("index", "").strip()) and term not in columns:
            columns[term] = _whole(index)
        if field.get("default"):
            defaults.setdefault(term, field.get("default", ""))
    key = next((e.get("index") for e in element if _local(e.tag) in ("id", "coreid")), None)
    locations = tuple(
        (e.text or "").strip().replace("\\", "/").removeprefix("./")
        for e in element.iter()
        if _local(e.tag) == "location"
    )
    if not locations or not all(locations):
        raise ValueError("a table has no file")
    encoding = element.get("encoding") or "UTF-8"
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise ValueError(f"encoding {encoding!r} is unknown") from None
    return TableFile(
        row_type=element.get("rowType", "").strip(),
        locations=locations,
        key=_whole(key) if key else columns.get("gbifID", 0),
        columns=columns,
        defaults=defaults,
        # XML turns a literal TAB or line end in an attribute into a blank.
        delimiter=_character(element, "fieldsTerminatedBy", ",").replace(" ", "\t") or ",",
        quote=_character(element, "fieldsEnclosedBy", '"').strip(),
        line_end=_character(element, "linesTerminatedBy", "\n").strip(" ") or "\n",
        encoding=encoding,
        header_lines=_whole(element.get("ignoreHeaderLines") or "0"),
    )


def _character(element: ElementTree.Element, name: str, default: str) -> str:
    value: Any = element.get(name, default)
    value = ESCAPES.get(value, value)
    if len(value.encode()) > 1:
        raise ValueError(f"{name} is {value!r}, not one character")
    return str(value)


def _whole(text: str) -> int:
    if not text.strip().isdigit():
        raise ValueError(f"{text!r} is no index")
    return int(text)


def _local(name: str) -> str:
    return re.split(r"[/#}]", name.strip())[-1]
