"""The access log: an object of JSON per request, in one line. No photograph, key, file name or raw address is in it."""

import json
import logging
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler

from aitax_ray.serving.record import Record

log = logging.getLogger(__name__)


def write(
    record: Record, seconds: float, status: int, outcome: str, bytes_in: int, bytes_out: int, client: str = ""
) -> None:
    """Write the line of a request that has been answered, unless the log is off."""
    if not log.isEnabledFor(logging.INFO):
        return
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request_id": record.request_id,
        "method": record.method,
        "route": record.route,
        "status": status,
        "seconds": round(seconds, 4),
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
        "engine": record.engine,
        "format": record.format,
        "outcome": outcome,
        "photographs": record.num_photographs,
        "parts": {name: round(each, 4) for name, each in record.seconds.items()},
    }
    log.info("%s", json.dumps(line | ({"client": client} if client else {}), separators=(",", ":")))


def start(path: str, max_bytes: int, num_backups: int) -> None:
    """Write to a file from now on. A full file gets the suffix .1, and the oldest one is deleted."""
    stop()
    handler = RotatingFileHandler(path, maxBytes=max_bytes, backupCount=num_backups, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def stop() -> None:
    """Write nothing any more."""
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    log.setLevel(logging.WARNING)
