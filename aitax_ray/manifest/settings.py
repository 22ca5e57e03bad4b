"""Settings of the `manifest` stage."""

import hashlib
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from aitax_ray.errors import SettingsError
from aitax_ray.manifest.addresses import digest_address
from aitax_ray.settings import HOW, StageSettings, flag

SOURCES = ("doi", "download_key", "archive", "names", "species", "photos")
LISTS = ("names", "species", "providers")  # files with an entry a line


class ManifestSettings(StageSettings):
    """Settings of `manifest`. Exactly one of doi, download_key, archive, names, species and photos is given."""

    doi: str | None = None
    """DOI of a GBIF occurrence download, such as 10.15468/dl.4gbcs6."""
    download_key: str | None = None
    """Key of a GBIF occurrence download, such as 0022697-200613084148143."""
    archive: str | None = None
    """A Darwin Core Archive with media: path or URL of a zip or tar, or the folder it was unpacked to."""
    names: Path | None = None
    """File with a scientific name a line; the species' photographs are asked for at GBIF."""
    species: Path | None = None
    """File with keys of taxa at GBIF, a line each or a JSON array; their photographs are asked for at GBIF."""
    photos: Path | None = None
    """Folder of your own photographs, with a sub-folder per species that is named after it, and metadata.csv if any."""
    providers: Path | None = None
    """File with keys of datasets at GBIF (datasetKey), a line each or a JSON array: only their photographs are kept."""
    checklist: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = None
    """Key of the checklist that --names are matched with and keys belong to; by default the one GBIF answers with."""
    label: Literal["species", "genus", "family", "accepted-taxon"] = "species"
    """What a photograph is labelled with; rows without a key for it are dropped."""
    license: Literal["open", "non-commercial", "any"] = "any"
    """Which licences of photographs to keep: open (CC0, BY, BY-SA), non-commercial (any Creative Commons), or any."""
    number: Annotated[int, Field(ge=1)] | None = None
    """At most so many photographs per species; which ones is drawn by --seed and does not change with the archive."""
    seed: int = 0
    """Seed of all that is drawn: which photographs --number keeps, the split, the training run."""
    vernacular_names: bool | None = None
    """Ask GBIF for the species' vernacular names, one call each; by default where the data come from GBIF itself."""
    request_again: Annotated[bool, HOW] = False
    """Ask for a download anew whose file GBIF has erased; takes your account in GBIF_USER and GBIF_PWD, or netrc."""
    dry_run: Annotated[bool, HOW] = False
    """Only count or estimate what there is and what it takes; nothing is kept (but an archive at a URL is fetched)."""
    gbif_url: Annotated[str, HOW] = "https://api.gbif.org"
    """Address of GBIF's API."""
    wait_s: Annotated[float, Field(ge=0), HOW] = 3 * 3600.0
    """How long to wait for a download that GBIF is still preparing, in seconds."""
    contact: Annotated[str, HOW, Field(pattern=r"^[\x20-\x7e]*$")] = ""
    """Mail address or web page by which GBIF and the hosts of photographs can reach you; goes into the User-Agent."""

    def result_fields(self) -> dict[str, Any]:
        """The settings that decide what comes out, and the content of what is read from local disk."""
        fields = super().result_fields() | {"content": self.content, "lists": self._lists()}
        for name in LISTS:  # what is in them counts, not where they are
            fields[name] = getattr(self, name) is not None
        if self.archive:
            del fields["archive"]  # the same archive in another place, or under another signature, is the same
            fields["content"] = self.content or digest_address(self.archive)
        return fields

    @field_validator("doi", "download_key")
    @classmethod
    def _one_spelling(cls, given: str | None, info: ValidationInfo) -> str | None:
        from aitax_ray.gbif.api import parse_doi, parse_key

        return (parse_doi if info.field_name == "doi" else parse_key)(given) if given else None

    @field_validator("archive", "gbif_url")
    @classmethod
    def _without_password(cls, given: str | None, info: ValidationInfo) -> str | None:
        # Not of every URL: abfss://container@account names a place, and no user.
        if given and re.search(r"https?://[^/?#]*@|://[^/?#@]*:[^/?#]*@", given, re.IGNORECASE):
            raise SettingsError(
                f"{flag(str(info.field_name))}: the address holds a user or password, which would stand in reports and "
                "logs: leave it out, and "
                + ("fetch the archive yourself" if info.field_name == "archive" else "give it in ~/.netrc")
            )
        return given

    @field_validator("photos")
    @classmethod
    def _absolute(cls, photos: Path | None) -> Path | None:
        # Later stages read them too, and may work in another folder.
        return photos.expanduser().absolute() if photos else None

    @cached_property
    def content(self) -> str:
        """Digest of the local archive or photographs, "" for what lies elsewhere."""
        from aitax_ray.darwin_core import unpack
        from aitax_ray.manifest import photos

        path = self.local_path
        return "" if path is None else photos.digest(path) if self.photos else unpack.digest(path)

    @property
    def local_path(self) -> Path | None:
        """Where the archive or the photographs are, None when they have to be fetched."""
        from aitax_ray.manifest.source import local_path

        return self.photos if self.photos else local_path(self.archive) if self.archive else None

    @property
    def dataset_keys(self) -> list[str]:
        """The datasets that --providers names, [] for all. Raises SettingsError."""
        from aitax_ray.gbif.matching import read_keys

        return read_keys(self.providers, "--providers") if self.providers else []

    def _lists(self) -> str:
        paths = [path for name in LISTS if (path := getattr(self, name)) and path.is_file()]
        return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest() if paths else ""
