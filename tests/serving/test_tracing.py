"""serving.tracing: the spans of a request, and when they are made."""

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from aitax_ray.serving import tracing
from aitax_ray.serving.http import make_app
from tests.engines import COLOURS, photo
from tests.serving.service import LocalBackend

ROOT = Path(__file__).parents[2]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    found, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(found))
    tracing.use(provider.get_tracer("test"))
    yield found
    tracing.use(None)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*tracing.ENDPOINTS, "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        monkeypatch.delenv(name, raising=False)


async def test_a_request_continues_the_trace_of_its_client_and_has_a_span_per_part(
    backend: LocalBackend, exporter: InMemorySpanExporter
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "my-id"}
    transport = httpx.ASGITransport(make_app(lambda: backend))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        path = "/v2/observation/identify/token/secret?api-key=secret"
        answer = await client.post(path, files={"image": ("secret.png", photo(COLOURS["11"]))}, headers=headers)
    assert answer.status_code == 200
    spans: dict[str, ReadableSpan] = {span.name: span for span in exporter.get_finished_spans()}
    whole = spans.pop("POST /v2/observation/identify/token/{token}")
    assert set(spans) == {"read", "decode", "serialise"}
    assert whole.context is not None
    assert whole.parent is not None
    assert (f"{whole.context.trace_id:032x}", f"{whole.parent.span_id:016x}") == (TRACE, PARENT)
    for span in spans.values():
        assert span.context is not None
        assert span.parent is not None
        assert (span.context.trace_id, span.parent.span_id) == (whole.context.trace_id, whole.context.span_id)
    assert whole.attributes is not None
    assert whole.attributes["http.response.status_code"] == 200
    assert whole.attributes["aitax.request_id"] == "my-id"
    assert whole.attributes["aitax.outcome"] in ("accepted", "unsure", "rejected")
    assert not any("secret" in str(span.to_json()) for span in (whole, *spans.values()))


def test_without_a_tracer_no_span_is_made() -> None:
    with tracing.span("read") as made, tracing.request_span("POST /", {}, {}) as whole:
        assert (made, whole) == (None, None)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, "otlp_proto_http"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, "otlp_proto_http"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "otlp_proto_grpc"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, ""),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "console"}, ""),
    ],
)
def test_the_variables_of_opentelemetry_decide(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tracing.exporter_name() == expected


def test_an_exporter_that_is_not_installed_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "smoke_signals")
    assert tracing.exporters() == []
    assert "smoke_signals is missing: pip install 'aitax-ray[otel]'" in caplog.text


PROGRAM = """
from aitax_ray.serving import tracing
tracing.start()
with tracing.request_span("POST /identify", {}, {}), tracing.span("read"):
    pass
"""


def test_spans_reach_a_collector_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "PYTHONPATH": str(ROOT),
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=120)
        server.shutdown()
        thread.join()
    ((path, body),) = bodies
    (found,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert path == "/v1/traces"
    assert {each.key: each.value.string_value for each in found.resource.attributes}["service.name"] == "aitax"
    assert sorted(span.name for span in found.scope_spans[0].spans) == ["POST /identify", "read"]
