"""Settings of the service: those that `aitax serve` and `serve_config.yaml` share, and those of the command alone."""

from typing import Annotated

from pydantic import Field

from aitax_ray.settings import Settings

MAX_WAITING = 200  # as many as small photographs that two cores identify in some seconds


class ApplicationArgs(Settings):
    """The shared settings: the `args` of serve_config.yaml."""

    engine: str
    """Engine: its folder, or a root where one is published; a path or URL that every replica can reach."""
    project: str | None = None
    """Name of the engine in the addresses of Pl@ntNet's format, beside `all`. Default: the last part of its DOI."""
    illustrate: bool = True
    """Add similar photographs to each species."""
    num_illustrations: Annotated[int, Field(ge=1, le=20)] = 6
    """Largest number of similar photographs per species."""
    allow_private_hosts: bool = False
    """Fetch photographs by URL from private and loopback addresses too."""
    keys: str | None = None
    """File of API keys, which `aitax keys` writes. Default: the lines in AITAX_KEYS; without them no key is needed."""
    cors_origins: tuple[str, ...] = ()
    """Web origins whose pages may read answers, such as https://frogs.example. Default: all."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which clients may call the service, without port. Default: all."""
    max_batch_size: Annotated[int, Field(ge=1)] = 16
    """Largest number of requests in a batch of the classifier."""
    batch_wait_timeout_s: Annotated[float, Field(ge=0)] = 0.01
    """Longest time in seconds that a request waits for others to share its batch."""
    classifier_cpus: Annotated[float, Field(gt=0)] = 1
    """CPUs that Ray reserves per replica of the classifier."""
    max_waiting: Annotated[int, Field(ge=1)] = MAX_WAITING
    """Largest number of requests that wait for answers, per replica of the ingress; the others get 503."""


class ServeSettings(ApplicationArgs):
    """Settings of `serve`."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 stands for all addresses of this machine."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 chooses a free one."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 60
    """Longest time in seconds that a request may take."""
