"""Spans of requests: what is in them, however a request ends, and collectors that do not work."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from front_engine import Frontend, RawCall, frontend
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from octavo.services.frontend import tracing
from octavo.services.frontend.tracing import MISSING, Tracer, hush, parts_of, spans_url
from octavo.shared.errors import ConfigError
from octavo.shared.messages import EngineStats
from octavo.shared.text.tokenizer import Tokenizer

PATH = "/v1/completions"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARTS = {"queue", "prefill", "decode"}


def spans_of(
    tokenizer: Tokenizer, test: Callable[[Frontend], Awaitable[None]]
) -> list[ReadableSpan]:
    """All that the requests of `test` left."""
    exporter = InMemorySpanExporter()
    tracer = Tracer(exporter, "tiny")

    async def main() -> None:
        async with frontend(tokenizer) as front:
            front.engine_client.tracer = tracer
            await test(front)
            await front.settle()

    asyncio.run(main())
    tracer.close()
    spans = list(exporter.get_finished_spans())
    for span in spans:
        assert (span.start_time or 0) <= (span.end_time or 0)
    return spans


def requests(spans: list[ReadableSpan]) -> list[ReadableSpan]:
    return [span for span in spans if span.name == "llm_request"]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def one(spans: list[ReadableSpan]) -> tuple[ReadableSpan, dict[str, Any]]:
    [span] = requests(spans)
    return span, attributes(span)


def test_what_a_span_says(tokenizer: Tokenizer) -> None:
    answers = []

    async def test(front: Frontend) -> None:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
        body = {"prompt": "Hi", "max_tokens": 2, "temperature": 0.5, "top_p": 0.9}
        answers.append(await front.client.post(PATH, json=body, headers=headers))

    span, said = one(spans_of(tokenizer, test))
    assert span.kind is SpanKind.SERVER and span.status.status_code is StatusCode.UNSET
    assert span.parent is not None and span.context is not None
    assert f"{span.parent.trace_id:032x}" == TRACE and f"{span.parent.span_id:016x}" == PARENT
    assert span.context.trace_state.get("vendor") == "1"
    assert said == {
        "gen_ai.request.id": answers[0].json()["id"],
        "gen_ai.request.model": "tiny",
        "gen_ai.request.n": 1,
        "gen_ai.request.max_tokens": 2,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.usage.prompt_tokens": answers[0].json()["usage"]["prompt_tokens"],
        "gen_ai.usage.completion_tokens": 2,
        "gen_ai.usage.cached_tokens": 3,
        "gen_ai.response.finish_reason": "length",
        "gen_ai.latency.time_to_first_token": said["gen_ai.latency.time_to_first_token"],
        "octavo.choice": 0,
        "octavo.replayed": 0,
    }


def test_each_choice_has_a_span(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        await front.post(PATH, prompt="Hi", n=2, max_tokens=3)

    found = [attributes(span) for span in requests(spans_of(tokenizer, test))]
    assert sorted(said["octavo.choice"] for said in found) == [0, 1]
    assert {said["gen_ai.request.n"] for said in found} == {2}
    assert len({said["gen_ai.request.id"] for said in found}) == 1


@pytest.mark.parametrize(
    ("header", "number"), [("garbage", 1), ("00-" + "0" * 32 + f"-{PARENT}-01", 1), (None, 1)]
)
def test_without_a_caller_that_makes_sense_it_is_a_trace_of_its_own(
    tokenizer: Tokenizer, header: str | None, number: int
) -> None:
    async def test(front: Frontend) -> None:
        headers = {} if header is None else {"traceparent": header}
        await front.client.post(PATH, json={"prompt": "Hi"}, headers=headers)

    span, _ = one(spans_of(tokenizer, test))
    assert span.parent is None


def test_a_caller_that_does_not_sample(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
        await front.client.post(PATH, json={"prompt": "Hi"}, headers=headers)

    assert spans_of(tokenizer, test) == []


def test_an_error_is_one(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.error = ("numerical_error", "The model produced invalid numbers.")
        assert (await front.post(PATH, prompt="Hi")).status_code == 500

    span, said = one(spans_of(tokenizer, test))
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "The model produced invalid numbers."
    assert said["error.type"] == said["gen_ai.response.finish_reason"] == "numerical_error"


@pytest.mark.parametrize("num_tokens", [0, 2])
def test_a_client_that_leaves(tokenizer: Tokenizer, num_tokens: int) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        call = RawCall(front.app, PATH, b'{"prompt": "Hi", "stream": true}')
        await front.settle()
        for number in range(num_tokens):
            front.engine.token(front.engine.submits[0], 70, first=number == 0)
        await front.settle()
        call.disconnect()
        await asyncio.wait([call.task])

    spans = spans_of(tokenizer, test)
    span, said = one(spans)
    assert span.status.status_code is StatusCode.UNSET
    assert said["gen_ai.response.finish_reason"] == "abort"
    assert said["gen_ai.usage.completion_tokens"] == num_tokens
    assert ("decode" in {each.name for each in spans}) == bool(num_tokens)


def test_a_stop_string_is_no_abort(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        call = asyncio.create_task(front.post(PATH, prompt="Hi", stop="w"))
        await front.settle()
        for number, token in enumerate(tokenizer.encode("Hello w", add_special_tokens=False)):
            front.engine.token(front.engine.submits[0], token, first=number == 0)
        assert (await call).json()["choices"][0]["finish_reason"] == "stop"

    _, said = one(spans_of(tokenizer, test))
    assert said["gen_ai.response.finish_reason"] == "stop"


def test_an_engine_that_is_gone(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        call = asyncio.create_task(front.post(PATH, prompt="Hi"))
        await front.settle()
        front.engine_client.close("The engine has stopped.")
        await call

    span, said = one(spans_of(tokenizer, test))
    assert span.status.status_code is StatusCode.ERROR
    assert said["error.type"] == "engine_dead"


def test_one_that_another_scheduler_went_on_with(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        call = asyncio.create_task(front.post(PATH, prompt="Hi", max_tokens=2))
        await front.settle()
        front.engine.token(front.engine.submits[0], 70, first=True)
        await front.settle()
        front.engine_client.receive(
            EngineStats(step=1, running=0, waiting=0, blocks_used=0, blocks_total=8, epoch=9)
        )
        await front.settle()
        front.engine.token(front.engine.submits[1], 71, last=True)
        await call

    _, said = one(spans_of(tokenizer, test))
    assert said["octavo.replayed"] == 1
    assert said["gen_ai.usage.completion_tokens"] == 2


@pytest.mark.parametrize(
    ("admitted", "first", "wanted"),
    [
        (0, 0, [("queue", 10, 20)]),
        (12, 0, [("queue", 10, 12), ("prefill", 12, 20)]),
        (12, 15, [("queue", 10, 12), ("prefill", 12, 15), ("decode", 15, 20)]),
        # Nobody has told when it was admitted.
        (0, 15, [("decode", 15, 20)]),
        # Admitted again after its first token.
        (17, 15, [("queue", 10, 15), ("prefill", 15, 15), ("decode", 15, 20)]),
        # Clocks that differ by a little.
        (9, 0, [("queue", 10, 10), ("prefill", 10, 20)]),
        (21, 0, [("queue", 10, 20), ("prefill", 20, 20)]),
    ],
)
def test_parts(admitted: float, first: float, wanted: list[tuple[str, float, float]]) -> None:
    assert parts_of(10, admitted, first, 20) == wanted


class Hanging(InMemorySpanExporter):
    """A collector that takes what it is sent and never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def export(self, spans: Any) -> Any:
        self.released.wait(60)
        return super().export(spans)


def test_a_collector_that_hangs_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tokenizer: Tokenizer
) -> None:
    assert tracing.CLOSE_SECONDS <= 2
    monkeypatch.setattr(tracing, "CLOSE_SECONDS", 0.1)
    exporter = Hanging()
    tracer = Tracer(exporter, "tiny")

    async def main() -> None:
        async with frontend(tokenizer) as front:
            front.engine_client.tracer = tracer
            await front.post(PATH, prompt="Hi")

    asyncio.run(main())
    began = time.monotonic()
    tracer.close()
    assert time.monotonic() - began < 10
    assert "did not answer in time" in caplog.text
    exporter.released.set()


def test_a_library_that_complains_is_heard_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    hush("chatty")
    for number in range(5):
        logging.getLogger("chatty.exporter").warning("failed %d", number)
    assert [record.getMessage() for record in caplog.records] == ["spans: failed 0"]
    monkeypatch.setattr(tracing, "WARNING_INTERVAL", -1.0)
    hush("chatty")
    caplog.clear()
    for number in range(2):
        logging.getLogger("chatty.exporter").warning("failed %d", number)
    assert len(caplog.records) == 2


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError) as caught:
        Tracer.to("http://localhost:4318", "tiny")
    assert caught.value.message == MISSING


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("https://collector/", "https://collector/v1/traces"),
        ("http://[::1]:4318/v1/traces", "http://[::1]:4318/v1/traces"),
        ("http://host/otlp/v1/traces?tenant=a", "http://host/otlp/v1/traces?tenant=a"),
    ],
)
def test_endpoints(written: str, meant: str) -> None:
    assert spans_url(written) == meant
