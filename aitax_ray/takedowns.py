"""The log of take-downs: which photographs their authors asked to withdraw, one file per request.

    takedowns/<time>-<digest>.json   Request; the digest is that of the criterion
    engines/withdrawn.json           image_ids that running services must not show

The log lies outside the folders of all stages. So it survives --force, later downloads and rebuilds. Each request has
its own file, because an object store cannot append to one.
"""

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from aitax_ray.errors import StorageError
from aitax_ray.storage import Storage

FOLDER = "takedowns"
WITHDRAWN_FILE = "withdrawn.json"  # in engines/, and in the folder of an engine that was copied elsewhere
WITHDRAWN = "withdrawn"  # why the manifest drops a row
NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{12}")

Kind = Literal["image", "url", "creator", "occurrence"]


class Request(BaseModel):
    """A request: its criterion, and the photographs that it matched so far."""

    model_config = ConfigDict(frozen=True)

    kind: Kind
    value: str
    requested: datetime
    reason: str = ""
    requested_by: str = ""
    restored: datetime | None = None
    """When the request was found to be a mistake. It has no effect since."""
    image_ids: list[str] = []
    urls: list[str] = []
    gbif_ids: list[str] = []
    jpeg_sha256: list[str] = []
    """Hashes of the stored pixels: the same photograph may come back under another URL."""

    @property
    def name(self) -> str:
        """The name of its file, which is how people refer to it."""
        digest = hashlib.sha256(f"{self.kind}\0{self.value}".encode()).hexdigest()[:12]
        return f"{self.requested:%Y%m%d-%H%M%S}-{digest}"

    def joined_with(self, other: "Request") -> "Request":
        """Add what another request of the same criterion matched."""
        lists = {
            name: sorted({*getattr(self, name), *getattr(other, name)})
            for name in ("image_ids", "urls", "gbif_ids", "jpeg_sha256")
        }
        return self.model_copy(update=lists)


def read_requests(storage: Storage) -> list[Request]:
    """Read the log, the oldest request first. Raises StorageError when a file of it cannot be understood.

    A file that is left out would bring its photographs back.
    """
    requests = []
    for file in storage.files(FOLDER, ".json"):
        if NAME.fullmatch(file.path.removeprefix(f"{FOLDER}/").removesuffix(".json")):
            try:
                requests.append(Request.model_validate(storage.read_json(file.path)))
            except (ValidationError, ValueError) as error:
                raise StorageError(
                    f"{storage.address(file.path)} is no request of the log of take-downs: "
                    "restore the file from a backup, or delete it and run `aitax takedown` again"
                ) from error
    return requests


def read_active_requests(storage: Storage) -> list[Request]:
    """Read the requests that have effect."""
    return [request for request in read_requests(storage) if request.restored is None]


def write_request(storage: Storage, request: Request) -> None:
    """Write a request into the log, in place of an earlier version of it."""
    storage.write_json(f"{FOLDER}/{request.name}.json", request.model_dump(mode="json"))


def now() -> datetime:
    """The time of a request, in whole seconds: the name of its file follows from it."""
    return datetime.now(UTC).replace(microsecond=0)


def withdrawn_ids(requests: Iterable[Request]) -> list[str]:
    """List the photographs of some requests, sorted."""
    return sorted({image_id for request in requests for image_id in request.image_ids})


def write_withdrawn(storage: Storage, path: str, image_ids: Iterable[str]) -> None:
    """Write a list for running services. They see the old or the new one, never a part."""
    storage.write_json(path, {"image_ids": sorted(set(image_ids))})


def read_withdrawn(storage: Storage, path: str) -> frozenset[str]:
    """Read a list for running services; an absent one is empty. Raises StorageError when it cannot be understood."""
    if not storage.exists(path):
        return frozenset()
    try:
        return frozenset(str(image_id) for image_id in storage.read_json(path)["image_ids"])
    except (ValueError, TypeError, KeyError) as error:
        raise StorageError(
            f"{storage.address(path)} is no list of withdrawn photographs: run the last `aitax takedown` again, "
            "which writes it anew"
        ) from error
