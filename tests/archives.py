"""Archives as publishers make them, and what becomes of any archive: builders for the tests of the reader."""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from aitax_ray.darwin_core import relations
from aitax_ray.darwin_core.archive import open_archive
from aitax_ray.darwin_core.tables import MALFORMED_COLUMN
from aitax_ray.database import open_database
from aitax_ray.manifest import media, taxa
from aitax_ray.manifest.decide import Rules, decide_rows
from aitax_ray.manifest.labels import Label, labelling
from tests.gbif_download import Row, archive_files, write_zip

DWC = "http://rs.tdwg.org/dwc/terms/"
ROW_TYPES = {
    "occurrence": f"{DWC}Occurrence",
    "event": f"{DWC}Event",
    "taxon": f"{DWC}Taxon",
    "multimedia": "http://rs.gbif.org/terms/1.0/Multimedia",
    "image": "http://rs.gbif.org/terms/1.0/Image",
    "audubon": "http://rs.tdwg.org/ac/terms/Multimedia",
}
NAMESPACES = {"dc": "http://purl.org/dc/elements/1.1/", "dcterms": "http://purl.org/dc/terms/"}
Files = dict[str, str | bytes]


@dataclass(frozen=True)
class Part:
    """A table of an archive. `terms` are words, with or without a prefix of NAMESPACES; the first is the core's id."""

    kind: str
    terms: str
    rows: Sequence[Sequence[str]] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    delimiter: str = "\t"
    quote: str = ""
    end: str = "\n"
    encoding: str = "UTF-8"
    header_lines: int = 1
    name: str = ""

    @property
    def file(self) -> str:
        return self.name or f"{self.kind}.txt"

    def text(self) -> str:
        lines = [*([self.terms.split()] * self.header_lines), *self.rows]
        return "".join(self.delimiter.join(line) + self.end for line in lines)

    def xml(self, tag: str) -> str:
        def uri(term: str) -> str:
            prefix, _, name = term.rpartition(":")
            return NAMESPACES.get(prefix, DWC) + name

        fields = [f'<field index="{i}" term="{uri(t)}"/>' for i, t in enumerate(self.terms.split())]
        fields += [f'<field term="{uri(t)}" default="{escape(value)}"/>' for t, value in self.defaults.items()]
        written = {
            "encoding": self.encoding,
            "fieldsTerminatedBy": self.delimiter.replace("\t", "\\t"),
            "fieldsEnclosedBy": self.quote,
            "linesTerminatedBy": self.end.replace("\r", "\\r").replace("\n", "\\n"),
            "ignoreHeaderLines": str(self.header_lines),
            "rowType": ROW_TYPES.get(self.kind, self.kind),
        }
        attributes = " ".join(f'{name}="{escape(value)}"' for name, value in written.items())
        key = "id" if tag == "core" else "coreid"
        return (
            f'<{tag} {attributes}><files><location>{self.file}</location></files><{key} index="0"/>'
            f"{''.join(fields)}</{tag}>"
        )


def publisher_files(core: Part, *extensions: Part) -> Files:
    """The files of an archive, by name."""
    xml = core.xml("core") + "".join(part.xml("extension") for part in extensions)
    files: Files = {"meta.xml": f'<archive xmlns="http://rs.tdwg.org/dwc/text/">{xml}</archive>'}
    return files | {part.file: part.text().encode(part.encoding) for part in (core, *extensions)}


@dataclass(frozen=True)
class Sorted:
    """What became of an archive's media rows."""

    num_rows: int
    counts: Counter[str]
    media: pl.DataFrame
    schemas: list[pa.Schema]  # of the files of media
    dropped: pl.DataFrame
    occurrences: pl.DataFrame
    taxa: pl.DataFrame

    @property
    def reasons(self) -> dict[int, str]:
        """Row to reason, of the dropped ones."""
        return dict(sorted(self.dropped.select("row", "reason").iter_rows()))

    @property
    def species(self) -> dict[str, str]:
        """The last part of the URL to the species' key, of the kept ones."""
        return {url.rsplit("/", 1)[-1]: key for url, key in self.media.select("url", "species_key").iter_rows()}


def sort_out(
    files: Files, *, label: Label = "species", datasets: Sequence[str] = (), rules: Rules | None = None
) -> Sorted:
    """Read an archive from a zip as the stage does, and decide which rows are kept."""
    with tempfile.TemporaryDirectory() as top:
        path = write_zip(Path(top, "a.zip"), files)
        folder = Path(top, "work")
        folder.mkdir()
        with open_database(folder) as database, open_archive(path) as archive:
            num_rows, _ = relations.link_media(archive, database, labelling(label))
            media.list_candidates(database, label, datasets)
            counts = decide_rows(database, rules or Rules(), num_rows, folder)
            taxa.write_occurrences(database, folder / "occurrences.parquet")
            return Sorted(
                num_rows,
                counts,
                pl.read_parquet(folder / "media" / "*.parquet"),
                [pq.read_schema(path) for path in (folder / "media").iterdir()],
                pl.read_parquet(folder / "dropped" / "*.parquet"),
                pl.read_parquet(folder / "occurrences.parquet"),
                taxa.read_taxa(database),
            )


def sort_out_download(occurrences: list[Row], photographs: list[Row], **more: Any) -> Sorted:
    """The same for a download of GBIF with these rows."""
    return sort_out(archive_files(occurrences, photographs), **more)


def read_media(path: Path, *terms: str) -> list[tuple[Any, ...]]:
    """row, core_id and these terms of the first table of media."""
    with open_archive(path) as archive:
        return (
            pl.read_parquet(archive.read(archive.media[0], {term: (term,) for term in terms}))
            .drop(MALFORMED_COLUMN)
            .rows()
        )


def mark_as_encrypted(path: Path, name: str) -> None:
    """Set the flag that says so in both headers of a zip's member (zipfile itself cannot encrypt)."""
    data = bytearray(path.read_bytes())
    for signature, flags, name_at in ((b"PK\x03\x04", 6, 30), (b"PK\x01\x02", 8, 46)):
        at = data.find(signature)
        while at >= 0 and data[at + name_at : at + name_at + len(name)] != name.encode():
            at = data.find(signature, at + 1)
        data[at + flags] |= 1
    path.write_bytes(data)
