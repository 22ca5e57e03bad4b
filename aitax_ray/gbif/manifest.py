"""The `manifest` stage: from a DOI, an archive or a folder of photographs to the table of what to download."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from aitax_ray import schemas, workspace
from aitax_ray.errors import ArchiveError, DataError, SettingsError
from aitax_ray.settings import HOW, StageSettings, flag
from aitax_ray.workspace import Outcome, StageReport, Workspace

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from aitax_ray.gbif.source import Query

log = logging.getLogger(__name__)

ROWS_PER_FILE = 250_000
SOURCES = ("doi", "download_key", "archive", "photos")


class ManifestSettings(StageSettings):
    """Settings of `manifest`. Exactly one of doi, download_key, archive and photos is given."""

    doi: str | None = None
    """DOI of a GBIF occurrence download, such as 10.15468/dl.4gbcs6."""
    download_key: str | None = None
    """Key of a GBIF occurrence download, such as 0022697-200613084148143."""
    archive: str | None = None
    """A Darwin Core Archive from GBIF: path or URL of a zip or tar, or the folder it was unpacked to."""
    photos: Path | None = None
    """Folder of your own photographs, with a sub-folder per species that is named after it."""
    number: Annotated[int, Field(ge=1)] | None = None
    """At most so many photographs per species; which ones is drawn by --seed and does not change with the archive."""
    seed: int = 0
    """Seed of all that is drawn: which photographs --number keeps, the split, the training run."""
    gbif_url: Annotated[str, HOW] = "https://api.gbif.org"
    """Address of GBIF's API."""
    wait_s: Annotated[float, Field(ge=0), HOW] = 3 * 3600.0
    """How long to wait for a download that GBIF is still preparing, in seconds."""
    contact: Annotated[str, HOW, Field(pattern=r"^[\x20-\x7e]*$")] = ""
    """Mail address or web page by which GBIF and the hosts of photographs can reach you; goes into the User-Agent."""

    def result_fields(self) -> dict[str, Any]:
        """The settings that decide what comes out, and the content of what is read from local disk."""
        fields = super().result_fields() | {"content": self.content}
        if self.content and self.archive:
            del fields["archive"]  # the same archive in another place is the same archive
        return fields

    @field_validator("doi", "download_key")
    @classmethod
    def _one_spelling(cls, given: str | None, info: ValidationInfo) -> str | None:
        from aitax_ray.gbif.api import parse_doi, parse_key

        return (parse_doi if info.field_name == "doi" else parse_key)(given) if given else None

    @field_validator("photos")
    @classmethod
    def _absolute(cls, photos: Path | None) -> Path | None:
        # Later stages read them too, and may work in another folder.
        return photos.expanduser().absolute() if photos else None

    @cached_property
    def content(self) -> str:
        """Digest of the local archive or photographs, "" for what lies elsewhere."""
        from aitax_ray.gbif import photos, unpack

        path = self.local_path
        return "" if path is None else photos.digest(path) if self.photos else unpack.digest(path)

    @property
    def local_path(self) -> Path | None:
        """Where the archive or the photographs are, None when they have to be fetched."""
        from aitax_ray.gbif.source import local_path

        return self.photos if self.photos else local_path(self.archive) if self.archive else None


def manifest(settings: ManifestSettings) -> StageReport:
    """List the photographs of a GBIF download, an archive or a folder, each with its species.

    Reads GBIF, an archive or a folder. Writes archive/ (the archive when it was fetched; query.json: where the data
    come from and how to cite them), manifest/media/ (schemas.MEDIA), manifest/taxa.parquet (TAXA),
    manifest/occurrences.parquet (OCCURRENCES: those with a photograph) and manifest/dropped.parquet (DROPPED: every
    other media row, with the reason). An archive that was fetched is kept when other settings change. Raises
    SettingsError, GbifError, ArchiveError, and DataError when no photograph is left.
    """
    _check_source(settings)
    ws = Workspace(settings.root)
    # Incremental for the sake of the fetched archive alone: the tables are always written anew.
    return ws.run("manifest", settings, (), lambda: _manifest(ws, settings), incremental=True)


def _check_source(settings: ManifestSettings) -> None:
    from aitax_ray.gbif import api, source

    given = [name for name in SOURCES if getattr(settings, name)]
    if len(given) != 1:
        flags = ", ".join(map(flag, SOURCES))
        found = " and ".join(map(flag, given)) + " are" if given else "none is"
        raise SettingsError(f"manifest takes exactly one of {flags}: {found} given")
    if settings.doi:
        api.parse_doi(settings.doi)
    if settings.download_key:
        api.parse_key(settings.download_key)
    path = settings.local_path
    if path is None:
        return
    if not path.exists():
        raise SettingsError(f"{flag(given[0])}: there is nothing at {path}")
    if settings.photos and not path.is_dir():
        raise SettingsError(f"--photos: {path} is no folder; for an archive use --archive")
    root = source.local_path(settings.root)
    for folder in [root / name for name in workspace.FOLDERS["manifest"]] if root else []:
        if path.resolve().is_relative_to(folder.resolve()):
            raise SettingsError(
                f"{flag(given[0])}: {path} lies in {folder}, which this stage writes: move it elsewhere"
            )


@dataclass(frozen=True)
class _Tables:
    media: "pl.DataFrame"
    dropped: "pl.DataFrame"
    occurrences: "pl.DataFrame"
    taxa: "pl.DataFrame"


def _manifest(ws: Workspace, settings: ManifestSettings) -> Outcome:
    from aitax_ray.gbif import source
    from aitax_ray.gbif.media import count_hosts, count_reasons

    tables, query = _read_photos(settings) if settings.photos else _read_archive(ws, settings)
    if query.archive != source.STORED:  # what an earlier run fetched from elsewhere
        ws.storage.delete(workspace.ARCHIVE)
    ws.storage.delete(workspace.MEDIA)
    for part, begin in enumerate(range(0, tables.media.height, ROWS_PER_FILE)):
        rows = _to_arrow(tables.media[begin : begin + ROWS_PER_FILE], schemas.MEDIA)
        ws.storage.write_table(f"{workspace.MEDIA}/part-{part:05}.parquet", rows)
    ws.storage.write_table(workspace.TAXA, _to_arrow(tables.taxa, schemas.TAXA))
    ws.storage.write_table(workspace.OCCURRENCES, _to_arrow(tables.occurrences, schemas.OCCURRENCES))
    ws.storage.write_table(workspace.DROPPED, _to_arrow(tables.dropped, schemas.DROPPED))
    outcome = Outcome(
        counts={
            "rows_read": tables.media.height + tables.dropped.height,
            "kept": tables.media.height,
            "species": tables.taxa.height,
            "occurrences": tables.occurrences.height,
            "hosts": count_hosts(tables.media),
        },
        reasons=count_reasons(tables.dropped),
    )
    told = {
        "settings": settings.result_fields() | {"archive": settings.archive},
        "counts": outcome.counts,
        "reasons": outcome.reasons,
    }
    ws.storage.write_json(workspace.QUERY, asdict(query) | told)
    return outcome


def _read_archive(ws: Workspace, settings: ManifestSettings) -> "tuple[_Tables, Query]":
    from aitax_ray.gbif import media, taxa
    from aitax_ray.gbif.archive import ASK, open_archive

    with _archive(ws, settings) as (path, query), open_archive(path) as archive:
        rows = media.candidates(archive)
        if rows.is_empty():
            raise ArchiveError(f"{path} lists no media at all, so none of its occurrences has a photograph: {ASK}")
        kept, dropped = media.settle(rows, settings.number, settings.seed)
        _check_left(kept, dropped, query.source)
        occurrences = taxa.read_occurrences(archive, kept)
        return _Tables(kept, dropped, occurrences, taxa.taxa(occurrences, kept)), query.completed(archive.citation)


def _read_photos(settings: ManifestSettings) -> "tuple[_Tables, Query]":
    from aitax_ray.gbif import media, photos
    from aitax_ray.gbif.source import Query

    folder = settings.local_path or Path()
    kept, dropped = media.settle(photos.candidates(folder), settings.number, settings.seed)
    _check_left(kept, dropped, str(folder))
    return _Tables(kept, dropped, photos.occurrences(kept), photos.taxa(kept)), Query(source=str(folder.resolve()))


@contextlib.contextmanager
def _archive(ws: Workspace, settings: ManifestSettings) -> "Iterator[tuple[Path, Query]]":
    """The archive on local disk, and its origin."""
    from aitax_ray.gbif import api, source
    from aitax_ray.gbif.client import Client

    path = settings.local_path
    if path is not None:
        yield path, source.Query(source=str(settings.archive), archive=str(path.resolve()), sha256=settings.content)
        return
    with Client(settings.contact) as client, contextlib.ExitStack() as stack:
        if settings.archive:
            yield stack.enter_context(source.from_url(ws.storage, client, settings.archive))
            return
        name = api.parse_doi(settings.doi) if settings.doi else api.parse_key(settings.download_key or "")
        yield stack.enter_context(source.from_gbif(ws.storage, client, settings.gbif_url, name, settings.wait_s))


def _check_left(kept: "pl.DataFrame", dropped: "pl.DataFrame", where: str) -> None:
    from aitax_ray.gbif.media import count_reasons

    if kept.is_empty():
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in count_reasons(dropped).items())
        raise DataError(
            f"no photographs with a species in {where}: {dropped.height:,} rows were dropped ({reasons}); "
            "widen the query"
        )


def _to_arrow(frame: "pl.DataFrame", schema: "pa.Schema") -> "pa.Table":
    """The frame in exactly that schema; in pieces, since a plain Arrow string column ends at 2 GB."""
    import pyarrow as pa

    pieces = [frame[i : i + ROWS_PER_FILE] for i in range(0, frame.height, ROWS_PER_FILE)]
    tables = [piece.select(schema.names).to_arrow().cast(schema) for piece in pieces]
    return pa.concat_tables([schema.empty_table(), *tables])
