"""Settings of the `download` stage."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from aitax_ray.settings import HOW, StageSettings

HOST_LIMIT = r"^[^=\s]+=\d+/\d+(\.\d+)?$"


class DownloadSettings(StageSettings):
    """Fetch the photographs of the manifest, bring them to one form, keep a ledger of every URL's fate."""

    image_size: int = Field(512, ge=32, le=4096)
    """Shorter side of the stored photographs in px, the longer at most 4 times that; small ones are not enlarged."""
    concurrency: Annotated[int, HOW] = Field(64, ge=1)
    """Requests at a time, over all workers."""
    per_host: Annotated[int, HOW] = Field(8, ge=1)
    """Requests at a time to one host, over all workers."""
    per_host_rate: Annotated[float, HOW] = Field(10.0, gt=0)
    """Requests a second to one host, over all workers."""
    host_limits: Annotated[tuple[Annotated[str, Field(pattern=HOST_LIMIT)], ...], HOW] = ()
    """Other limits for some hosts, each as HOST=REQUESTS_AT_A_TIME/REQUESTS_A_SECOND."""
    timeout_s: Annotated[float, HOW] = Field(60.0, gt=0)
    """Seconds for one request in all."""
    connect_timeout_s: Annotated[float, HOW] = Field(10.0, gt=0)
    """Seconds for the connection."""
    read_timeout_s: Annotated[float, HOW] = Field(20.0, gt=0)
    """Seconds between two parts of an answer."""
    max_bytes: Annotated[int, HOW] = Field(50_000_000, ge=1)
    """Largest photograph that is fetched, in bytes."""
    max_pixels: Annotated[int, HOW] = Field(100_000_000, ge=1, le=178_956_970)
    """Largest photograph that is decoded, in pixels."""
    max_memory: Annotated[int, HOW] = Field(1_000_000_000, ge=1)
    """Bytes of photographs as fetched that a worker holds at a time."""
    attempts: Annotated[int, HOW] = Field(4, ge=1)
    """Requests for one URL before a run gives it up; only for failures that may pass."""
    shard_size: Annotated[int, HOW] = Field(256, ge=1, le=4096)
    """Photographs in one Parquet file."""
    num_actors: Annotated[int | None, HOW] = Field(None, ge=1)
    """Ray actors that fetch, each with its decoders; by default one for four CPUs, and at least one a node."""
    fallback: Annotated[Literal["none", "image-cache"], HOW] = "none"
    """Where to ask for photographs whose originals are dead: GBIF's image cache, one at a time."""
    gbif_url: Annotated[str, HOW] = "https://api.gbif.org"
    """Address of GBIF's API."""
    retry_failed: Annotated[bool, HOW] = False
    """Try again all that failed; otherwise only what failed for a reason that may have passed."""
    prune: Annotated[bool, HOW] = False
    """Delete stored photographs that the manifest has no more; otherwise they are only marked."""
    respect_robots: Annotated[bool, HOW] = True
    """Leave photographs alone whose hosts ask not to use them for AI (X-Robots-Tag: noai, noimageai)."""
    allow_private_hosts: Annotated[bool, HOW] = False
    """Fetch from loopback and private addresses too."""
    contact: Annotated[str, HOW] = Field("", pattern=r"^[\x20-\x7e]*$")
    """Mail address or web page where GBIF and the hosts of photographs can reach you; it goes into the User-Agent."""

    @field_validator("host_limits")
    @classmethod
    def _can_be_kept(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            if 0 in (float(number) for number in entry.rpartition("=")[2].split("/")):
                raise ValueError(f"{entry}: a host that may be asked nothing would be waited for for ever")
        return entries
