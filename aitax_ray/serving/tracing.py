"""OpenTelemetry traces: a span per request and per part of it. Off unless OTEL_* variables name an exporter.

Needs the extra `otel`. Where Ray Serve's own tracing is on, these spans are parts of its traces.
"""

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span, Tracer

log = logging.getLogger(__name__)

NAME = "aitax_ray"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SERVICE = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")
_tracers: "list[Tracer]" = []  # one, or none while traces are off


def exporter_name() -> str:
    """Name the exporter that the OTEL_* variables ask for, as packages register it; "" for none."""
    chosen = os.environ.get("OTEL_TRACES_EXPORTER", "otlp" if any(map(os.environ.get, ENDPOINTS)) else "none")
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or chosen == "none":
        return ""
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    return (f"otlp_proto_{'grpc' if protocol == 'grpc' else 'http'}") if chosen == "otlp" else chosen


def exporters() -> "list[SpanProcessor]":
    """Make what exports spans: none, or one. Ray Serve's `tracing_config` may name this function."""
    name = exporter_name()
    if not name:
        return []
    for found in entry_points(group="opentelemetry_traces_exporter", name=name):
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        return [BatchSpanProcessor(found.load()())]
    log.warning("no traces are written, the exporter %s is missing: pip install 'aitax-ray[otel]'", name)
    return []


def start() -> None:
    """Write traces from now on, if the OTEL_* variables say so, or if Ray Serve does."""
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
    except ImportError:
        if exporter_name():
            log.warning("no traces are written: pip install 'aitax-ray[otel]'")
        return
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        processors = exporters()
        if not processors:
            return
        named = None if any(map(os.environ.get, SERVICE)) else Resource.create({"service.name": "aitax"})
        provider = TracerProvider(resource=named)
        for processor in processors:
            provider.add_span_processor(processor)
        trace.set_tracer_provider(provider)
    use(trace.get_tracer(NAME))


def use(tracer: "Tracer | None") -> None:
    """Make spans with this tracer; None: make none."""
    _tracers[:] = [tracer] if tracer else []


def span(name: str) -> "contextlib.AbstractContextManager[Span | None]":
    """Make a span as long as the context lasts."""
    return _tracers[0].start_as_current_span(name) if _tracers else contextlib.nullcontext()


@contextlib.contextmanager
def request_span(name: str, headers: Mapping[str, str], attributes: Mapping[str, Any]) -> "Iterator[Span | None]":
    """Make the span of a request. Its parent is the current span, or the one that the header `traceparent` names."""
    if not _tracers:
        yield None
        return
    from opentelemetry import propagate, trace

    context = None if trace.get_current_span().get_span_context().is_valid else propagate.extract(headers)
    with _tracers[0].start_as_current_span(name, context, trace.SpanKind.SERVER, attributes) as made:
        yield made


def past_span(name: str, seconds: float) -> None:
    """Make a span that ends now."""
    if _tracers:
        end = time.time_ns()
        _tracers[0].start_span(name, start_time=end - int(seconds * 1e9)).end(end)
