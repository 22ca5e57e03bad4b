"""The metrics of the service, named as Prometheus does. No Ray, no HTTP.

Modules record values here. In a replica `replica.equip` hands them to Ray, which exports them on every node with the
prefix `ray_`, with the labels application, deployment and replica. Elsewhere they are dropped. Labels have few values:
no species, no key, nothing that a client chooses.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

PREFIX = "ray_"  # that Ray puts before each name

Instrument = Callable[[float, dict[str, str]], None]
_instruments: dict[str, Instrument] = {}


@dataclass(frozen=True)
class Metric:
    """A metric. Each call of `record` adds to a counter, sets a gauge, or puts a value into a histogram."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper limits of a histogram's buckets."""

    def record(self, value: float = 1.0, **labels: str) -> None:
        """Record a value; `labels` has a value for each label."""
        instrument = _instruments.get(self.name)
        if instrument is not None:
            instrument(value, labels)


def connect(instruments: Mapping[str, Instrument]) -> None:
    """Hand all that is recorded from now on to these functions, by the name of the metric."""
    _instruments.clear()
    _instruments.update(instruments)


SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)

IDENTIFICATIONS = Metric(
    "counter",
    "aitax_identifications_total",
    "Requests to identify: accepted, unsure or rejected as the answer says, error, or left (the client went away).",
    ("format", "outcome", "status"),
)
IDENTIFICATION_SECONDS = Metric(
    "histogram",
    "aitax_identification_seconds",
    "Time from the first byte of a request to identify until its answer is sent.",
    ("format",),
    SECONDS,
)
PART_SECONDS = Metric("histogram", "aitax_part_seconds", "Time of each part of a request.", ("part",), SECONDS)
BATCH_PHOTOGRAPHS = Metric(
    "histogram",
    "aitax_batch_photographs",
    "Photographs in a run of the network.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
)
TOP_SCORE = Metric("histogram", "aitax_top_score", "Score of the best species of each answer.", buckets=SHARES)
NEAREST_SIMILARITY = Metric(
    "histogram",
    "aitax_nearest_similarity",
    "Cosine of each photograph with the nearest one in the index.",
    buckets=SHARES,
)
WAITING_REQUESTS = Metric("gauge", "aitax_waiting_requests", "Requests that have arrived and have no answer yet.")
BODY_BYTES = Metric("gauge", "aitax_body_bytes", "Bytes of the bodies of all requests that are read or used.")
DECODING_PHOTOGRAPHS = Metric("gauge", "aitax_decoding_photographs", "Photographs that are decoded or wait for it.")
DECODING_BYTES = Metric("gauge", "aitax_decoding_bytes", "Bytes of these photographs.")
DECODER_FAILURES = Metric(
    "counter", "aitax_decoder_failures_total", "Decoders that crashed or took too long.", ("reason",)
)
REFUSALS = Metric("counter", "aitax_refusals_total", "Requests that were refused, on all routes.", ("reason",))
FETCHES = Metric("counter", "aitax_fetches_total", "Photographs fetched by their URL, or why not.", ("outcome",))
RETRIES = Metric("counter", "aitax_retries_total", "Calls of another deployment that were repeated.", ("target",))
ENGINE_INFO = Metric("gauge", "aitax_engine_info", "1 for the engine in use, 0 for earlier ones.", ("version",))
ENGINE_FAILURES = Metric(
    "counter", "aitax_engine_failures_total", "Failed attempts to change to the engine that has become current."
)

METRICS = (
    *(IDENTIFICATIONS, IDENTIFICATION_SECONDS, PART_SECONDS, BATCH_PHOTOGRAPHS, TOP_SCORE, NEAREST_SIMILARITY),
    *(WAITING_REQUESTS, BODY_BYTES, DECODING_PHOTOGRAPHS, DECODING_BYTES, DECODER_FAILURES),
    *(REFUSALS, FETCHES, RETRIES, ENGINE_INFO, ENGINE_FAILURES),
)
