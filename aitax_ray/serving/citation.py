"""How to cite an answer: the data, the engine and the program, as text for people and as BibTeX."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aitax_ray.engine.info import EngineInfo

GBIF_DOWNLOAD = "10.15468/dl."
ESCAPED = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\~{}", "^": r"\^{}"}
)
VERBATIM = ("doi", "url")  # BibTeX styles do not read commands in these


@dataclass(frozen=True)
class Reference:
    """Something to cite."""

    text: str
    link: str
    """"" if there is none."""
    kind: str
    key: str
    fields: Mapping[str, str]

    def bibtex(self) -> str:
        """Write an entry of BibTeX."""
        lines = [f"  {name} = {{{_escape(name, value)}}}" for name, value in self.fields.items() if value]
        return f"@{self.kind}{{{self.key},\n" + ",\n".join(lines) + "\n}\n"


def list_references(info: EngineInfo, address: str = "") -> list[Reference]:
    """List what to cite for answers of an engine: the data if its source is known, the engine, the program.

    `address` is that of the service, "" if there is none.
    """
    made_with = info.versions.get("aitax-ray", "")
    program = f"aitax_ray {made_with}".strip()
    about = f"{len(info.classes):,} species, {info.num_indexed:,} photographs"
    text = f"Species identification engine {info.version}: {about}, made with {program}. {address}"
    engine = Reference(
        text=text.strip(),
        link=address,
        kind="misc",
        key=f"engine_{_key(info.version)}",
        fields={
            "title": f"Species identification engine {info.version}",
            "year": str(info.created.year),
            "version": info.version,
            "url": address,
            "note": f"{about}, made with {program}",
        },
    )
    software = Reference(
        text=f"{program}: from a GBIF query to a species identification engine. Software.",
        link="",
        kind="misc",
        key="aitax_ray",
        fields={
            "title": "aitax_ray: from a GBIF query to a species identification engine",
            "version": made_with,
            "note": "Software",
        },
    )
    return [*_data(info), engine, software]


def to_bibtex(info: EngineInfo, address: str = "") -> str:
    """Write all references as BibTeX."""
    return "\n".join(reference.bibtex() for reference in list_references(info, address))


def _data(info: EngineInfo) -> list[Reference]:
    if not info.doi and not info.citation:
        return []
    link = f"https://doi.org/{info.doi}" if info.doi else ""
    is_download = (info.doi or "").startswith(GBIF_DOWNLOAD)
    title = "GBIF Occurrence Download" if is_download else "Occurrences and photographs"
    years = re.findall(r"\b(?:19|20)\d\d\b", (info.citation or "").replace(info.doi or "\0", ""))
    fields = {
        "author": "GBIF.org" if is_download else "",
        "title": title,
        "year": years[0] if years else "",
        "doi": info.doi or "",
        "note": info.citation or "",
    }
    text = info.citation or f"{'GBIF.org. ' if is_download else ''}{title}. {link}"
    return [Reference(text, link, "misc", f"data_{_key(info.doi or 'source')}", fields)]


def _key(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text.rpartition("/")[2]).strip("_")


def _escape(name: str, value: str) -> str:
    value = " ".join(value.split())
    if name in VERBATIM:
        return re.sub(r"[{}\\\s]", "", value)
    escaped = value.translate(ESCAPED)
    return f"{{{escaped}}}" if name == "author" else escaped  # an organisation, not a first and a last name
