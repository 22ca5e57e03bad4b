"""Settings of the service: what `aitax serve` and `serve_config.yaml` share, and what the command adds."""

from typing import Annotated

from pydantic import Field

from aitax_ray.settings import Settings


class ApplicationArgs(Settings):
    """The settings that both share: the `args` of serve_config.yaml."""

    engine: str
    """The engine: its folder, or a root where one is published; a path or URL that every replica can reach."""
    illustrate: bool = True
    """Show similar photographs with each species."""
    num_illustrations: Annotated[int, Field(ge=1, le=20)] = 6
    """Similar photographs for each species, at most."""
    allow_private_hosts: bool = False
    """Fetch photographs that a request names by URL from private and loopback addresses too."""
    max_batch_size: Annotated[int, Field(ge=1)] = 16
    """Requests that the classifier takes at once, at most."""
    batch_wait_timeout_s: Annotated[float, Field(ge=0)] = 0.01
    """How long a request waits for others to share its batch, s."""
    classifier_cpus: Annotated[float, Field(gt=0)] = 1
    """CPUs that Ray keeps for each replica of the classifier."""


class ServeSettings(ApplicationArgs):
    """Settings of `serve`."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all of this machine's."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes a free one."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 60
    """After this time a request is given up, s."""
