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
LISTS = ("names", "species", "providers")  # files with one entry per line


class ManifestSettings(StageSettings):
    """Settings of `manifest`. Exactly one of doi, download_key, archive, names, species and photos is given."""

    doi: str | None = None
    """DOI of a GBIF occurrence download, such as 10.15468/dl.4gbcs6."""
    download_key: str | None = None
    """Key of a GBIF occurrence download, such as 0022697-200613084148143."""
    archive: str | None = None
    """A Darwin Core Archive with media: path or URL of a zip or tar, or the folder it was unpacked to."""
    names: Path | None = None
    """File with one scientific name per line: the photographs of these species are fetched from GBIF."""
    species: Path | None = None
    """File with one GBIF taxon key per line, or a JSON array: the photographs of these taxa are fetched from GBIF."""
    photos: Path | None = None
    """Folder of your own photographs: one sub-folder per species, named after the species; metadata.csv is optional."""
    providers: Path | None = None
    """File with one dataset key of GBIF (datasetKey) per line, or a JSON array: only photographs of these are kept."""
    checklist: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = None
    """Key of the checklist that names are matched with and keys belong to. Default: the checklist of GBIF's answers."""
    label: Literal["species", "genus", "family", "accepted-taxon"] = "species"
    """The taxon that labels a photograph. Photographs without such a taxon are dropped."""
    license: Literal["open", "non-commercial", "any"] = "any"
    """Keep photographs under these licences: open (CC0, BY, BY-SA), non-commercial (any Creative Commons), or any."""
    number: Annotated[int, Field(ge=1)] | None = None
    """Keep at most this many photographs per species, drawn by --seed; a larger archive changes no draw."""
    seed: int = 0
    """Seed of all random choices: the photographs that `manifest --number` keeps, the split, the training run."""
    vernacular_names: bool | None = None
    """Ask GBIF for vernacular names, one request per species. Default: when the data come from GBIF."""
    lineage: bool = False
    """Ask GBIF for family, order and higher taxa of species that have none, as those of --photos, by their names."""
    request_again: Annotated[bool, HOW] = False
    """Request the download again if GBIF has erased its file, with your account (GBIF_USER, GBIF_PWD, or netrc)."""
    dry_run: Annotated[bool, HOW] = False
    """Only count, or estimate, the photographs and the time; keep nothing. An archive at a URL is fetched for it."""
    gbif_url: Annotated[str, HOW] = "https://api.gbif.org"
    """Address of GBIF's API."""
    wait_s: Annotated[float, Field(ge=0), HOW] = 3 * 3600.0
    """Longest time to wait for a download that GBIF is preparing, in seconds."""
    contact: Annotated[str, HOW, Field(pattern=r"^[\x20-\x7e]*$")] = ""
    """Mail address or web page where GBIF and the hosts of photographs can reach you; it goes into the User-Agent."""

    def result_fields(self) -> dict[str, Any]:
        """The settings that decide the result, and a digest of the archive, the photographs and the lists."""
        fields = super().result_fields() | {"content": self.content, "lists": self._lists()}
        for name in LISTS:  # their content counts, not their path
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
        # abfss://container@account is no user, so "@" alone is refused only in http.
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
        # Later stages read them too, perhaps from another working folder.
        return photos.expanduser().absolute() if photos else None

    @cached_property
    def content(self) -> str:
        """Digest of the local archive or photographs; "" when they are not local."""
        from aitax_ray.darwin_core import unpack
        from aitax_ray.manifest import photos

        path = self.local_path
        return "" if path is None else photos.digest(path) if self.photos else unpack.digest(path)

    @property
    def local_path(self) -> Path | None:
        """The path of the local archive or photographs; None when they have to be fetched."""
        from aitax_ray.manifest.source import find_local_path

        return self.photos if self.photos else find_local_path(self.archive) if self.archive else None

    @property
    def dataset_keys(self) -> list[str]:
        """The keys that --providers lists, [] for all datasets. Raises SettingsError."""
        from aitax_ray.gbif.matching import read_keys

        return read_keys(self.providers, "--providers") if self.providers else []

    def _lists(self) -> str:
        paths = [path for name in LISTS if (path := getattr(self, name)) and path.is_file()]
        return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest() if paths else ""
