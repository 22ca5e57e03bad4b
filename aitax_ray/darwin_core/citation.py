"""The origin of an archive, from its own files: metadata.xml and citations.txt of GBIF downloads, EML of others."""

import contextlib
import re
from dataclasses import dataclass
from xml.etree import ElementTree

from aitax_ray.darwin_core.descriptor import MAX_BYTES, parse_xml
from aitax_ray.darwin_core.unpack import Files

NOT_CITED = "When using"  # how GBIF's citations.txt begins, before the citations


@dataclass(frozen=True)
class Citation:
    """The origin of an archive; "" where the archive does not give it."""

    doi: str = ""
    download_key: str = ""
    date: str = ""  # ISO 8601
    datasets: tuple[str, ...] = ()  # the citation of each dataset


def read_download_citation(files: Files) -> Citation:
    """Read the origin of a download of GBIF."""
    doi = key = date = ""
    if (root := _xml(files, "metadata.xml")) is not None:
        found = re.fullmatch(r"(?:https?://doi\.org/|doi:)?(10\.\d{4,9}/\S+)", root.get("packageId", "").strip())
        doi = found[1].lower() if found else ""
        key, date = _text(root, ".//alternateIdentifier"), _text(root, ".//pubDate")
    lines = [line for line in _lines(files, "citations.txt") if not line.startswith(NOT_CITED)]
    return Citation(doi, key, date, tuple(lines))


def read_publisher_citation(files: Files, metadata: str) -> Citation:
    """Read the origin of a publisher's archive from the EML file that its meta.xml calls `metadata`.

    The citation is the one in the EML. Without one it is made from creators, year, title and DOI, as
    https://www.gbif.org/citation-guidelines says. The DOI is that of the dataset, not of a download.
    """
    root = _xml(files, metadata or "eml.xml")
    if root is None:
        return Citation(datasets=tuple(_lines(files, "CITATION.txt", " ")))
    date = _text(root, ".//dataset/pubDate")
    citation = _text(root, ".//additionalMetadata//citation")
    if citation:
        return Citation(date=date, datasets=(citation,))
    title = _text(root, ".//dataset/title")
    creators = ", ".join(filter(None, map(_creator, root.findall(".//dataset/creator"))))
    links = [" ".join((e.text or "").split()) for e in root.findall(".//dataset/alternateIdentifier")]
    doi = next((link for link in links if re.match(r"(https?://(dx\.)?doi\.org/|doi:|10\.)", link)), "")
    year = f" ({date[:4]})" if date else ""
    parts = [f"{creators}{year}".strip(), title, doi]
    return Citation(date=date, datasets=(". ".join(filter(None, parts)),) if title else ())


def _creator(creator: ElementTree.Element) -> str:
    name = f"{_text(creator, './/givenName')} {_text(creator, './/surName')}".strip()
    return name or _text(creator, "organizationName")


def _lines(files: Files, name: str, joined_by: str = "") -> list[str]:
    """The lines of a text that are not empty; with `joined_by` one line that holds them all."""
    found = files.find(name)
    if not found or files.sizes[found] > MAX_BYTES:
        return []
    text = files.get(found).read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return [joined_by.join(lines)] if joined_by and lines else lines


def _xml(files: Files, name: str) -> ElementTree.Element | None:
    found = files.find(name.rsplit("/", 1)[-1])
    if not found or files.sizes[found] > MAX_BYTES:
        return None
    with contextlib.suppress(ValueError):
        return parse_xml(files.get(found).read_bytes())
    return None


def _text(element: ElementTree.Element, path: str) -> str:
    return " ".join((element.findtext(path) or "").split())
