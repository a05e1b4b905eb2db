"""Spans of requests for OpenTelemetry, with `--otlp-traces-endpoint`: the request, and under it
its time in the queue, in its prompt and in its output.

The caller's `traceparent` is the parent. Times are the scheduler's, told with a request's end, so a
span is made when all is known. Export is the library's: in batches, in a thread, dropping what a
slow collector has no room for.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from octavo.shared.errors import ConfigError
from octavo.shared.messages import Finished, Submit
from octavo.shared.version import VERSION

MISSING = "--otlp-traces-endpoint needs OpenTelemetry: pip install 'octavo[otel]'"


class Ended(Protocol):
    """What a tracer reads of a stream."""

    submit: Submit | None
    traceparent: str
    cached_tokens: int

    @property
    def num_output_tokens(self) -> int: ...


class Tracer:
    """`exporter`: one of the SDK's."""

    def __init__(self, exporter: Any, model: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource.create({"service.name": "octavo", "service.version": VERSION})
        self._provider = TracerProvider(resource=resource)
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
        shown = parse_env_headers(headers, liberal=True)
        return cls(OTLPSpanExporter(endpoint=endpoint, headers=shown), model)

    def note(self, stream: Ended, finished: Finished) -> None:
        """A sequence has ended."""
        if (submit := stream.submit) is None:
            return
        from opentelemetry.trace import set_span_in_context

        parent = self._propagator.extract({"traceparent": stream.traceparent})
        end = time.monotonic()
        span = self._tracer.start_span(
            "llm_request", parent, start_time=self._at(submit.arrival_time)
        )
        for name, value in self._attributes(stream, submit, finished).items():
            span.set_attribute(name, value)
        inside = set_span_in_context(span)
        for name, begun, ended in _parts(submit.arrival_time, finished, end):
            part = self._tracer.start_span(name, inside, start_time=self._at(begun))
            part.end(self._at(ended))
        span.end(self._at(end))

    def _attributes(self, stream: Ended, submit: Submit, finished: Finished) -> dict[str, Any]:
        found: dict[str, Any] = {
            "gen_ai.request.model": self._model,
            "gen_ai.usage.prompt_tokens": len(submit.prompt_ids) // 4,
            "gen_ai.usage.completion_tokens": stream.num_output_tokens,
            "gen_ai.usage.cached_tokens": stream.cached_tokens,
            "gen_ai.response.finish_reason": finished.error or finished.reason,
        }
        if finished.first_token_time:
            seconds = finished.first_token_time - submit.arrival_time
            found["gen_ai.latency.time_to_first_token"] = seconds
        return found

    def _at(self, moment: float) -> int:
        return int(moment * 1e9) + self._offset

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def _parts(arrival: float, finished: Finished, end: float) -> list[tuple[str, float, float]]:
    """(name, from, to) of what there was of it."""
    admitted, first = finished.admitted_time, finished.first_token_time
    parts = [("queue", arrival, admitted or end)]
    if admitted:
        parts.append(("prefill", admitted, first or end))
    if first:
        parts.append(("decode", first, end))
    return parts
