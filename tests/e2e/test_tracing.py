"""Spans of a real server, as a collector gets them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from octavo_server import serving
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(BaseHTTPRequestHandler):
    spans: list[Any]
    shown: str | None

    def do_POST(self) -> None:
        type(self).shown = self.headers["x-collector-key"]
        data = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            data = gzip.decompress(data)
        request = ExportTraceServiceRequest.FromString(data)
        for group in request.resource_spans:
            for scope in group.scope_spans:
                self.spans += scope.spans
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    Collector.spans = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", Collector.spans
        server.shutdown()
        thread.join()


def test_spans_of_a_request(collector: tuple[str, list[Any]]) -> None:
    """Queue, prompt and output inside the request, inside the caller's span."""
    endpoint, spans = collector
    env = {"OTEL_EXPORTER_OTLP_HEADERS": "x-collector-key=a%20secret"}
    with serving("--device", "cpu", "--otlp-traces-endpoint", endpoint, env=env) as server:
        answer = httpx.post(
            f"{server.url}/v1/completions",
            json={"prompt": [5] * 40, "max_tokens": 20, "ignore_eos": True},
            headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
            timeout=30,
        )
        assert answer.status_code == 200
    assert Collector.shown == "a secret"
    named = {span.name: span for span in spans}
    assert set(named) == {"llm_request", "queue", "prefill", "decode"}
    whole = named["llm_request"]
    assert whole.trace_id.hex() == TRACE and whole.parent_span_id.hex() == PARENT
    for name in ("queue", "prefill", "decode"):
        assert named[name].parent_span_id == whole.span_id
    moments = [named[name].start_time_unix_nano for name in ("queue", "prefill", "decode")]
    assert moments == sorted(moments) and whole.start_time_unix_nano == moments[0]
    assert named["decode"].end_time_unix_nano == whole.end_time_unix_nano
    values = {one.key: one.value for one in whole.attributes}
    assert values["gen_ai.usage.prompt_tokens"].int_value == 40
    assert values["gen_ai.usage.completion_tokens"].int_value == 20
