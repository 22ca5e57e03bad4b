"""meta.xml: which file of a Darwin Core Archive holds which table, and in which column which term is.

Source: https://dwc.tdwg.org/text/, "Darwin Core text guide". The names in a file's header line are not used.
"""

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from aitax_ray.errors import ArchiveError

MAX_BYTES = 10 * 2**20
MAX_HEADER_LINES = 10_000
OCCURRENCE, EVENT, TAXON = "occurrence", "event", "taxon"  # kinds of rows, see `TableFile.kind`
MULTIMEDIA, AUDUBON, IMAGE = "multimedia", "audubon", "image"  # kinds of media, in the order of preference
KINDS = {
    "http://rs.tdwg.org/ac/terms/multimedia": AUDUBON,
    "http://rs.gbif.org/terms/1.0/multimedia": MULTIMEDIA,  # "Simple Multimedia", which GBIF's downloads use too
    "http://rs.gbif.org/ipt/terms/1.0/multimedia": MULTIMEDIA,
    "http://rs.gbif.org/terms/1.0/image": IMAGE,  # "Simple Images", its predecessor
    "http://eol.org/schema/media/document": AUDUBON,  # of the Encyclopedia of Life, with terms of Audubon Core
}
# Where the photograph of a row is, in the order of preference (https://ac.tdwg.org/termlist).
ACCESS_TERMS = ("accessURI", "bestQualityAccessURI", "goodQualityAccessURI")
_MEDIA_WORD = re.compile(r"medi[ae]|image|photo|foto|bild|picture|audio|visual|document|attachment", re.IGNORECASE)
_IMAGE_WORD = re.compile(r"image|photo|foto|bild|picture", re.IGNORECASE)
# Kinds of extensions of GBIF (https://rs.gbif.org/extensions.html) that have an identifier and a type or format, too.
_NO_MEDIA = (OCCURRENCE, EVENT, TAXON, "identifier", "reference")
ESCAPES = {"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\r\\n": "\n", "\r\n": "\n"}


@dataclass(frozen=True)
class TableFile:
    """A table as meta.xml describes it.

    `columns` leads from a term's local name to its indexes: dc:creator and dcterms:creator may both be there. `key` is
    the index of the core's id.
    """

    row_type: str
    locations: tuple[str, ...]
    key: int
    columns: dict[str, tuple[int, ...]]
    defaults: dict[str, str]
    delimiter: str
    quote: str
    line_end: str
    encoding: str
    header_lines: int

    @property
    def kind(self) -> str:
        """What a row is: OCCURRENCE, EVENT, TAXON, MULTIMEDIA, AUDUBON, IMAGE, or the type's name in small letters."""
        return _kind(self.row_type)

    @property
    def is_media(self) -> bool:
        """Whether rows are media, by the terms of the table. Extensions of other things have an `identifier` too."""
        if self.kind in (MULTIMEDIA, AUDUBON, IMAGE):
            return True
        if self.kind in _NO_MEDIA:
            return False
        is_of_files = self.has("format") or self.has("type") or _MEDIA_WORD.search(_local(self.row_type)) is not None
        return any(map(self.has, ACCESS_TERMS)) or (self.has("identifier") and is_of_files)

    @property
    def width(self) -> int:
        """How many columns it takes to reach the last one that has a term."""
        return max([self.key, *(index for indexes in self.columns.values() for index in indexes)]) + 1

    def has(self, term: str) -> bool:
        """Whether rows can have a value for the term."""
        return bool(self.find_columns(term) or self.find_defaults(term))

    def find_columns(self, term: str) -> list[int]:
        """The indexes of a term. Publishers write "accessUri" too, so capitals do not matter."""
        return [index for name in _same(term, self.columns) for index in self.columns[name]]

    def find_defaults(self, term: str) -> list[str]:
        """The values of a term that has the same value in each row: one, or none. Capitals do not matter."""
        return [self.defaults[name] for name in _same(term, self.defaults)][:1]


@dataclass(frozen=True)
class Descriptor:
    """The tables of an archive, and the name of the file that describes it as a whole, "" where it names none."""

    core: TableFile
    extensions: tuple[TableFile, ...]
    metadata: str = ""

    def tables(self, kind: str) -> list[TableFile]:
        """The tables with rows of that kind, the core first."""
        return [table for table in (self.core, *self.extensions) if table.kind == kind]


def parse_xml(data: bytes) -> ElementTree.Element:
    """Parse XML that declares no entities and no document type. Raises ValueError."""
    try:
        # Some writers begin with a blank line, which XML forbids before its declaration.
        root: ElementTree.Element = fromstring(data.removeprefix(codecs.BOM_UTF8).lstrip(), forbid_dtd=True)
    except DefusedXmlException as error:
        raise ValueError("it declares entities or a document type") from error
    except (ElementTree.ParseError, LookupError) as error:
        raise ValueError(str(error)) from error
    return root


def parse_meta(data: bytes, where: str) -> Descriptor:
    """Read meta.xml. Raises ArchiveError, in which `where` names the archive."""
    try:
        root = parse_xml(data)
        core = next(e for e in root if _local(e.tag) == "core")
        extensions = [e for e in root if _local(e.tag) == "extension"]
        return Descriptor(_table(core), tuple(_table(e) for e in extensions), root.get("metadata", "").strip())
    except StopIteration:
        raise ArchiveError(f"the meta.xml of {where} names no core: it is no Darwin Core Archive") from None
    except ValueError as error:
        raise ArchiveError(f"the meta.xml of {where} cannot be read ({error}): download the archive again") from error


def _table(element: ElementTree.Element) -> TableFile:
    columns: dict[str, tuple[int, ...]] = {}
    defaults: dict[str, str] = {}
    for field in (e for e in element if _local(e.tag) == "field"):
        term = _local(field.get("term", ""))
        if index := field.get("index", "").strip():
            columns[term] = (*columns.get(term, ()), _whole(index))
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
    encoding = element.get("encoding", "").strip() or "UTF-8"
    try:
        bytes(4).decode(encoding, errors="surrogateescape")
    except (LookupError, UnicodeError):  # unknown, or none of text ("base64"), or too special ("idna")
        raise ValueError(f"encoding {encoding!r} is unknown") from None
    row_type = element.get("rowType", "").strip()
    if _kind(row_type) == IMAGE or _IMAGE_WORD.search(_local(row_type)):
        defaults.setdefault("type", "StillImage")  # which goes without saying there: the extension has no such term
    return TableFile(
        row_type=row_type,
        locations=locations,
        key=_whole(key) if key else columns.get("gbifID", (0,))[0],
        columns=columns,
        defaults=defaults,
        # XML turns a literal TAB or line end in an attribute into a blank.
        delimiter=_character(element, "fieldsTerminatedBy", ",").replace(" ", "\t") or ",",
        quote=_character(element, "fieldsEnclosedBy", '"').strip(),
        line_end=_character(element, "linesTerminatedBy", "\n").strip(" ") or "\n",
        encoding=encoding,
        header_lines=_header_lines(element.get("ignoreHeaderLines") or "0"),
    )


def _same(term: str, terms: Iterable[str]) -> list[str]:
    return [name for name in terms if name.lower() == term.lower()]


def _kind(row_type: str) -> str:
    row_type = row_type.lower().replace("https://", "http://")
    return KINDS.get(row_type, _local(row_type))


def _character(element: ElementTree.Element, name: str, default: str) -> str:
    value: Any = element.get(name, default)
    value = ESCAPES.get(value, value)
    if len(value.encode()) > 1:
        raise ValueError(f"{name} is {value!r}, not one character")
    return str(value)


def _header_lines(text: str) -> int:
    if (number := _whole(text)) > MAX_HEADER_LINES:
        raise ValueError(f"a header of {number:,} lines")
    return number


def _whole(text: str) -> int:
    if not text.strip().isdigit():
        raise ValueError(f"{text!r} is no index")
    return int(text)


def _local(name: str) -> str:
    return re.split(r"[/#}]", name.strip())[-1]
