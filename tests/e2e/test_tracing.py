"""Spans of a real server, as a collector gets them."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from octavo_server import serving
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

UNSET, ERROR = 0, 2
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
        yield f"http://127.0.0.1:{server.server_address[1]}", Collector.spans
        server.shutdown()
        thread.join()


def test_spans_of_requests(collector: tuple[str, list[Any]]) -> None:
    """Of one with a caller's span, one that its client leaves, and one that fails."""
    endpoint, spans = collector
    body = {"prompt": [5] * 40, "max_tokens": 1500, "ignore_eos": True}
    env = {"OTEL_EXPORTER_OTLP_HEADERS": "x-collector-key=a%20secret"}
    with serving("--device", "cpu", "--otlp-traces-endpoint", endpoint, env=env) as server:
        url, headers = f"{server.url}/v1/completions", {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        short = {**body, "max_tokens": 20}
        assert httpx.post(url, json=short, headers=headers, timeout=30).status_code == 200
        with httpx.stream("POST", url, json={**body, "stream": True}, timeout=30) as answer:
            next(line for line in answer.iter_lines() if line)
        late = {**body, "deadline_ms": 300}
        assert httpx.post(url, json=late, timeout=30).status_code == 504
    assert Collector.shown == "a secret"
    check_parts([span for span in spans if span.trace_id.hex() == TRACE])
    others = {
        reason(span): span.status.code
        for span in spans
        if span.name == "llm_request" and span.trace_id.hex() != TRACE
    }
    assert others == {"abort": UNSET, "deadline_exceeded": ERROR}


def check_parts(spans: list[Any]) -> None:
    """Queue, prompt and output inside the request, inside the caller's span."""
    named = {span.name: span for span in spans}
    assert set(named) == {"llm_request", "queue", "prefill", "decode"}
    whole = named["llm_request"]
    assert whole.parent_span_id.hex() == PARENT
    for name in ("queue", "prefill", "decode"):
        assert named[name].parent_span_id == whole.span_id
    moments = [named[name].start_time_unix_nano for name in ("queue", "prefill", "decode")]
    assert moments == sorted(moments) and whole.start_time_unix_nano == moments[0]
    assert named["decode"].end_time_unix_nano == whole.end_time_unix_nano
    values = {one.key: one.value for one in whole.attributes}
    assert values["gen_ai.usage.prompt_tokens"].int_value == 40
    assert values["gen_ai.usage.completion_tokens"].int_value == 20


def reason(span: Any) -> str:
    values = {one.key: one.value.string_value for one in span.attributes}
    return str(values["gen_ai.response.finish_reason"])


@pytest.mark.parametrize("answers", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_collector_that_is_down_delays_no_shutdown(answers: bool) -> None:
    """`answers`: it takes connections, and then says nothing."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        if answers:
            hole.listen(8)
        endpoint = f"http://127.0.0.1:{hole.getsockname()[1]}"
        with serving("--device", "cpu", "--otlp-traces-endpoint", endpoint) as server:
            server.post("/v1/completions", {"prompt": [5] * 10, "max_tokens": 2})
            assert server.stop(seconds=10) == 0
        assert not any("was killed" in line or "did not stop" in line for line in server.lines)
        assert sum("spans: " in line for line in server.lines) <= 1
