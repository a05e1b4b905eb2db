"""Spans of requests for OpenTelemetry, with `--otlp-traces-endpoint`: the request, and under it
its time in the queue, in its prompt and in its output.

The caller's span is the parent. A span is made when all is known, at a sequence's end, whatever
ended it. Export is the library's: in batches, in a thread, dropping what a slow collector has no
room for.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from octavo.services.frontend.inbox import Stream
from octavo.shared.errors import ConfigError
from octavo.shared.messages import Finished, Submit
from octavo.shared.version import VERSION

MISSING = "--otlp-traces-endpoint needs OpenTelemetry: pip install 'octavo[otel]'"
PATH = "/v1/traces"
CLOSE_SECONDS = 2.0
"""For the last spans at a frontend's end; what a collector has not taken by then is dropped."""
WARNING_INTERVAL = 60.0
"""Seconds between two lines about a collector that takes nothing."""

log = logging.getLogger(__name__)


class Tracer:
    """`exporter`: one of the SDK's."""

    def __init__(self, exporter: Any, model: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource.create({"service.name": "octavo", "service.version": VERSION})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("octavo")
        self._propagator = TraceContextTextMapPropagator()
        self._model = model
        self._offset = time.time_ns() - time.monotonic_ns()

    @classmethod
    def to(cls, endpoint: str, model: str, headers: str = "") -> Tracer:
        """`headers`: `name=value,…`. Raises ConfigError without the library."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.util.re import parse_env_headers
        except ImportError as error:
            raise ConfigError(MISSING) from error
        hush("opentelemetry")
        shown = parse_env_headers(headers, liberal=True)
        return cls(OTLPSpanExporter(endpoint=spans_url(endpoint), headers=shown), model)

    def note(self, stream: Stream, finished: Finished) -> None:
        """A sequence has ended."""
        if (submit := stream.submit) is None:
            return
        from opentelemetry.trace import SpanKind, set_span_in_context

        end = time.monotonic()
        parts = parts_of(submit.arrival_time, finished.admitted_time, stream.first_at, end)
        span = self._tracer.start_span(
            "llm_request",
            self._propagator.extract(stream.trace),
            SpanKind.SERVER,
            self._attributes(stream, submit, finished),
            start_time=self._at(submit.arrival_time),
        )
        inside = set_span_in_context(span)
        for name, begun, ended in parts:
            part = self._tracer.start_span(name, inside, start_time=self._at(begun))
            part.end(self._at(ended))
        if finished.reason == "error":
            _fail(span, finished)
        span.end(self._at(end))

    def _attributes(self, stream: Stream, submit: Submit, finished: Finished) -> dict[str, Any]:
        sampling, streams = submit.sampling, stream.inbox.streams
        found: dict[str, Any] = {
            "gen_ai.request.id": stream.inbox.name,
            "gen_ai.request.model": self._model,
            "gen_ai.request.n": max(one.submit.num_choices for one in streams if one.submit) or 1,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "gen_ai.usage.prompt_tokens": len(submit.prompt_ids) // 4,
            "gen_ai.usage.completion_tokens": stream.num_output_tokens,
            "gen_ai.usage.cached_tokens": stream.cached_tokens,
            "gen_ai.response.finish_reason": finished.error or finished.reason,
            "octavo.choice": streams.index(stream),
            "octavo.replayed": stream.num_replays,
        }
        if sampling.max_tokens is not None:
            found["gen_ai.request.max_tokens"] = sampling.max_tokens
        if stream.first_at:
            seconds = stream.first_at - submit.arrival_time
            found["gen_ai.latency.time_to_first_token"] = seconds
        return found

    def _at(self, moment: float) -> int:
        return int(moment * 1e9) + self._offset

    def close(self) -> None:
        """Send what is left, for CLOSE_SECONDS at most."""
        closing = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)
        if closing.is_alive():
            log.warning("the collector of spans did not answer in time: the last are lost")


def spans_url(endpoint: str) -> str:
    """Where spans are sent; a collector's address alone gets the usual path."""
    parts = urlsplit(endpoint)
    return parts._replace(path=PATH).geturl() if parts.path in ("", "/") else endpoint


def _fail(span: Any, finished: Finished) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_status(Status(StatusCode.ERROR, finished.message or finished.error))
    span.set_attribute("error.type", finished.error or finished.reason)


def parts_of(
    arrival: float, admitted: float, first: float, end: float
) -> list[tuple[str, float, float]]:
    """(name, from, to) of what there was of a request: queue, prefill, decode.

    `admitted` and `first` (token) are 0 where it did not get so far, or nobody has told when: of
    a request that is left before its first token. If another scheduler went on with it, that has
    admitted it again, perhaps after what is its first token here.
    """
    if admitted:
        admitted = min(max(admitted, arrival), first or end)
    parts = []
    if admitted or not first:
        parts.append(("queue", arrival, admitted or end))
    if admitted:
        parts.append(("prefill", admitted, first or end))
    if first:
        parts.append(("decode", first, end))
    return parts


def hush(name: str) -> None:
    """Let a library's warnings through once a WARNING_INTERVAL."""
    logger = logging.getLogger(name)
    logger.propagate = False
    logger.handlers = [Hushed()]


class Hushed(logging.Handler):
    """Says as ours what a library has to say, and how often it has said nothing."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._due = float("-inf")
        self._kept = 0

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now < self._due:
            self._kept += 1
            return
        more = f" (and {self._kept} more such lines)" if self._kept else ""
        log.warning("spans: %s%s", record.getMessage(), more)
        self._due, self._kept = now + WARNING_INTERVAL, 0
