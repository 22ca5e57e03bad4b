"""Settings of the service: those that `aitax serve` and `serve_config.yaml` share, and those of the command alone."""

import logging
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from aitax_ray.errors import SettingsError
from aitax_ray.settings import Settings, build_settings

log = logging.getLogger(__name__)

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
    access_log: Literal["json", "none"] = "json"
    """Write a line of JSON per request into Ray's logs (json), without photographs and keys, or write none."""
    log_clients: bool = False
    """Write the addresses of clients into the access log, too. In many countries they are personal data."""
    keep_queries: str | None = None
    """Keep identified photographs and their answers in this folder or URL. Default: no photograph is kept."""
    max_kept_bytes: Annotated[int, Field(ge=1)] = 10_000_000_000
    """Bytes that kept photographs may take together; later ones are not kept."""
    max_batch_size: Annotated[int, Field(ge=1)] = 32
    """Largest number of photographs in a batch of the network, or of a search."""
    batch_budget_s: Annotated[float, Field(gt=0)] = 0.1
    """Longest time in seconds that a batch should take. Batches are as large as this permits; none waits to fill up."""
    classifier_cpus: Annotated[float, Field(gt=0)] = 1
    """CPUs that Ray reserves per replica of the classifier."""
    classifier_gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs that Ray reserves per replica of the classifier, such as 0.5; it needs onnxruntime-gpu. 0: it uses CPUs."""
    max_waiting: Annotated[int, Field(ge=1)] = MAX_WAITING
    """Largest number of requests that wait for answers, per replica of the ingress; the others get 503."""
    min_ingress_replicas: Annotated[int, Field(ge=1)] = 1
    """Smallest number of replicas of the ingress, which speaks HTTP and decodes photographs."""
    max_ingress_replicas: Annotated[int, Field(ge=1)] = 1
    """Largest number of them: more than the smallest number lets it grow with the load."""
    min_classifier_replicas: Annotated[int, Field(ge=1)] = 1
    """Smallest number of replicas of the classifier."""
    max_classifier_replicas: Annotated[int, Field(ge=1)] = 1
    """Largest number of them."""
    min_retrieval_replicas: Annotated[int, Field(ge=1)] = 1
    """Smallest number of replicas of the retrieval, for each part of the index."""
    max_retrieval_replicas: Annotated[int, Field(ge=1)] = 1
    """Largest number of them, for each part."""
    retrieval_parts: Annotated[int, Field(ge=1)] | None = None
    """Parts into which the shards of the index are divided, each in processes of its own. Default: one per shard."""
    target_ongoing_requests: Annotated[float, Field(gt=0)] = 16
    """Requests at a time per replica of the ingress, for which replicas are added and removed."""
    target_ongoing_calls: Annotated[float, Field(gt=0)] = 2
    """Calls at a time per replica of the classifier and the retrieval, for which replicas are added and removed."""
    upscale_delay_s: Annotated[float, Field(gt=0)] = 10
    """Time in seconds that the load must be higher before replicas are added."""
    downscale_delay_s: Annotated[float, Field(ge=0)] = 300
    """Time in seconds that the load must be lower before replicas are removed."""

    @model_validator(mode="after")
    def _has_ordered_numbers(self) -> Self:
        for name in ("ingress", "classifier", "retrieval"):
            if getattr(self, f"max_{name}_replicas") < getattr(self, f"min_{name}_replicas"):
                raise ValueError(f"--max-{name}-replicas must not be below --min-{name}-replicas")
        return self


CHANGEABLE = ("illustrate", "num_illustrations", "max_batch_size", "batch_budget_s")
"""Settings that the `user_config` of the ingress in serve_config.yaml may change while its replicas run."""


def change(args: ApplicationArgs, user_config: Mapping[str, Any]) -> ApplicationArgs | None:
    """Put a `user_config` in the place of settings; None when it is wrong, which is logged.

    It is no exception: Ray Serve would end a replica that works.
    """
    try:
        if wrong := sorted(user_config.keys() - set(CHANGEABLE)):
            raise SettingsError(f"{', '.join(wrong)} cannot be changed here, only {', '.join(CHANGEABLE)}")
        return build_settings(ApplicationArgs, user_config, args.model_dump())
    except SettingsError as error:
        log.error("the user_config of the ingress is not used: %s", error)
        return None


class ServeSettings(ApplicationArgs):
    """Settings of `serve`."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 stands for all addresses of this machine."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 chooses a free one."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 60
    """Longest time in seconds that a request may take."""
