"""What a replica of Ray Serve needs so that people can see what it does: metrics, log files, traces."""

import asyncio
import logging
import logging.handlers
import threading
from pathlib import Path
from typing import Any

from aitax_ray.serving import access_log, metrics, tracing
from aitax_ray.serving.metrics import METRICS, Instrument, Metric
from aitax_ray.serving.settings import ApplicationArgs

PACKAGE = "aitax_ray"
INGRESS = "Ingress"  # the deployment that has an access log
GAUGE_DELAY_S = 0.5  # Ray exports metrics every 10 s
REPLICA, ACCESS = "replica_", "access_"  # beginnings of the names of log files


def equip(args: ApplicationArgs) -> None:
    """Connect metrics, logs and traces of this replica to those of Ray. Outside of a replica, do nothing."""
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        context = serve.get_replica_context()
    except RayServeException:
        return
    metrics.connect({metric.name: _instrument(metric) for metric in METRICS})
    log = _share_log()
    if log is not None and context.deployment == INGRESS and args.access_log == "json":
        path = Path(log.baseFilename)
        access = path.with_name(ACCESS + path.name.removeprefix(REPLICA))
        access_log.start(str(access), log.maxBytes, log.backupCount)
    else:
        access_log.stop()
    tracing.start()


def _instrument(metric: Metric) -> Instrument:
    """Make what exports a metric through Ray, with the labels application, deployment and replica."""
    from ray.serve import metrics as serve_metrics

    labels: Any = metric.labels  # annotated as a tuple of one
    if metric.kind == "histogram":
        return serve_metrics.Histogram(metric.name, metric.help, list(metric.buckets), labels).observe
    if metric.kind == "gauge":
        return _Latest(serve_metrics.Gauge(metric.name, metric.help, labels).set)
    return serve_metrics.Counter(metric.name, metric.help, labels).inc


class _Latest:
    """Hands on the latest value of a gauge. A request changes eight, and each would be a call of Ray's core."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._latest: dict[tuple[str, ...], tuple[float, dict[str, str]]] = {}
        self._lock = threading.Lock()

    def __call__(self, value: float, labels: dict[str, str]) -> None:
        with self._lock:
            is_first = not self._latest
            self._latest[tuple(labels.values())] = value, labels
        if is_first:
            try:
                asyncio.get_running_loop().call_later(GAUGE_DELAY_S, self._hand_on)
            except RuntimeError:  # there is no loop in this thread
                self._hand_on()

    def _hand_on(self) -> None:
        with self._lock:
            latest, self._latest = self._latest, {}
        for value, labels in latest.values():
            self._instrument(value, labels)


def _share_log() -> logging.handlers.RotatingFileHandler | None:
    """Write what this package logs into the replica's log file; Ray Serve writes only its own logger there.

    Returns the handler of this file, None if there is none.
    """
    theirs, ours = logging.getLogger("ray.serve"), logging.getLogger(PACKAGE)
    # Past the buffers before these files, in which Ray may keep a thousand lines: an error must be seen at once.
    targets = [getattr(handler, "target", handler) for handler in theirs.handlers]
    ours.handlers, ours.propagate = list(targets), False
    ours.setLevel(logging.INFO)
    return next((each for each in targets if isinstance(each, logging.handlers.RotatingFileHandler)), None)
