"""Settings of the `download` stage."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from aitax_ray.settings import HOW, StageSettings
from aitax_ray.web import host_of

HOST_LIMIT = r"^[^=\s]+=\d+/\d+(\.\d+)?$"


class DownloadSettings(StageSettings):
    """Fetch the photographs of the manifest, convert them to one form, record in a ledger what became of each URL."""

    image_size: int = Field(512, ge=32, le=4096)
    """Shorter side of the stored photographs in px, the longer at most 4 times that; small ones are not enlarged."""
    concurrency: Annotated[int, HOW] = Field(64, ge=1)
    """Requests at a time on each node, to all hosts together."""
    per_host: Annotated[int, HOW] = Field(8, ge=1)
    """Requests at a time to one host, from all nodes together."""
    per_host_rate: Annotated[float, HOW] = Field(10.0, gt=0)
    """Requests per second to one host, from all nodes together."""
    host_limits: Annotated[tuple[Annotated[str, Field(pattern=HOST_LIMIT)], ...], HOW] = ()
    """Other limits for some hosts, each as HOST=REQUESTS_AT_A_TIME/REQUESTS_PER_SECOND."""
    timeout_s: Annotated[float, HOW] = Field(60.0, gt=0)
    """Longest time that one request may take, in seconds."""
    connect_timeout_s: Annotated[float, HOW] = Field(10.0, gt=0)
    """Longest time to connect, in seconds."""
    read_timeout_s: Annotated[float, HOW] = Field(20.0, gt=0)
    """Longest time between two parts of an answer, in seconds."""
    max_bytes: Annotated[int, HOW] = Field(50_000_000, ge=1)
    """Largest photograph that is fetched, in bytes."""
    max_pixels: Annotated[int, HOW] = Field(100_000_000, ge=1, le=178_956_970)
    """Largest photograph that is decoded, in pixels."""
    max_memory: Annotated[int, HOW] = Field(1_000_000_000, ge=1)
    """Most bytes of fetched photographs that a worker keeps in memory."""
    attempts: Annotated[int, HOW] = Field(4, ge=1)
    """Most requests for one URL in a run; a request is only repeated after a failure that may pass."""
    shard_size: Annotated[int, HOW] = Field(256, ge=1, le=4096)
    """Photographs in one Parquet file."""
    num_actors: Annotated[int | None, HOW] = Field(None, ge=1)
    """Ray actors that fetch, each with its own decoders; by default one per four CPUs, and at least one per node."""
    fallback: Annotated[Literal["none", "image-cache"], HOW] = "none"
    """Where to ask for photographs whose original is gone: GBIF's image cache, one request at a time."""
    gbif_url: Annotated[str, HOW] = "https://api.gbif.org"
    """Address of GBIF's API."""
    retry_failed: Annotated[bool, HOW] = False
    """Try all failed photographs again; otherwise only those that failed for a reason that may have passed."""
    prune: Annotated[bool, HOW] = False
    """Delete stored photographs that the manifest no longer lists; otherwise they are only marked."""
    respect_robots: Annotated[bool, HOW] = True
    """Skip photographs whose hosts ask not to use them for AI (X-Robots-Tag: noai, noimageai)."""
    allow_private_hosts: Annotated[bool, HOW] = False
    """Fetch from loopback and private addresses, too."""
    contact: Annotated[str, HOW] = Field("", pattern=r"^[\x20-\x7e]*$")
    """Mail address or web page where GBIF and the hosts of photographs can reach you; it goes into the User-Agent."""

    @field_validator("host_limits")
    @classmethod
    def _can_be_kept(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            if 0 in (float(number) for number in entry.rpartition("=")[2].split("/")):
                raise ValueError(f"{entry}: give more than 0, or the photographs of this host would wait for ever")
            host = entry.rpartition("=")[0]
            if host_of(f"http://{host}") != host.lower():
                raise ValueError(f"{entry}: give the host alone, without http:// and without a port")
        return entries
