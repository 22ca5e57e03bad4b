"""What is recorded of a request while it is answered, for metrics, the access log and traces. No Ray, no HTTP.

Code anywhere below the request writes into the record of the request that it works for, which `current` finds.
"""

import contextlib
import re
import time
import uuid
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from aitax_ray.serving import metrics, tracing
from aitax_ray.serving.identifier import Identification

REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,100}")  # an id of a client that may stand in logs
# Parts of a request, in their order. `wait`, for calls of other deployments, is within `model`, `search`, `illustrate`.
PARTS = ("read", "fetch", "decode", "prepare", "model", "search", "reason", "illustrate", "serialise", "wait")
ACCEPTED, UNSURE, REJECTED = "accepted", "unsure", "rejected"


@dataclass
class Record:
    """What is known of a request."""

    request_id: str = ""
    method: str = ""
    route: str = ""
    """Template of the route, "" if there is none."""
    format: str = ""
    """Format of an identification, "" if the request is none."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Of each part that has ended."""
    num_photographs: int = 0
    engine: str = ""
    judgement: str = ""
    """What an identification says: accepted, unsure or rejected; "" while it says nothing."""
    end_of_work: float = 0.0
    """When the answer was known and only had to be written, by time.perf_counter; 0 before."""


_current: ContextVar[Record | None] = ContextVar("aitax_record", default=None)


def current() -> Record:
    """Give the record of the request that this code works for; a new one if it works for none."""
    return _current.get() or Record()


@contextlib.contextmanager
def recording(record: Record) -> Iterator[None]:
    """Make this the current record, also in all tasks that start meanwhile."""
    token = _current.set(record)
    try:
        yield
    finally:
        _current.reset(token)


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """Measure a part of a request: one of PARTS."""
    start = time.perf_counter()
    with tracing.span(name):
        try:
            yield
        finally:
            add_part(name, time.perf_counter() - start)


def add_part(name: str, seconds: float) -> None:
    """Add the time of a part that was measured elsewhere."""
    found = current().seconds
    found[name] = found.get(name, 0.0) + seconds
    metrics.PART_SECONDS.record(seconds, part=name)


def record_answer(identification: Identification) -> Identification:
    """Record an answer, and return it."""
    record, judgement = current(), identification.judgement
    record.engine, record.end_of_work = identification.engine_version, time.perf_counter()
    if not judgement.is_known:
        record.judgement = REJECTED
    else:
        record.judgement = ACCEPTED if judgement.is_accepted else UNSURE
    metrics.TOP_SCORE.record(identification.candidates[0].score)
    metrics.NEAREST_SIMILARITY.record(judgement.similarity)
    return identification


def choose_request_id(given: str) -> str:
    """Choose the id of a request: the one that the client gives, if it may stand in logs, else a new one."""
    return given if REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
