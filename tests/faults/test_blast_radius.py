"""F9, F11 and quarantine: what is wrong with one request, or one step, stays there."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fault_checks import COUNT, TOKENS, hooked, outcomes, report, wrong
from fault_streams import Seen, Streams
from octavo_server import Server

Start = Callable[..., Server]
QUARANTINED_BY = 4
"""Deaths, as test_trials has it."""
CURSED: dict[str, Any] = {
    "prompt": "A cursed request.",
    "max_tokens": 47,
    "ignore_eos": True,
    "temperature": 0,
}


@pytest.fixture
def faulty(start: Start) -> Start:
    def make(fault: str, *flags: str, **options: Any) -> Server:
        return start(*flags, env=hooked(fault), **options)

    return make


class Curse:
    """A cursed request beside streams, and how it was answered."""

    def __init__(self, server: Server, **changes: Any) -> None:
        self._server = server
        self._request = CURSED | changes
        self.status = 0
        self.body: Any = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        path = "/v1/completions"
        self.status, body = self._server.request("POST", path, self._request, timeout=120)
        self.body = json.loads(body)

    def __call__(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(120)


def begin(curses: list[Curse]) -> None:
    for curse in curses:
        curse()


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [("memory", 503, "out_of_memory"), ("raise", 500, "request_quarantined")],
)
def test_f9_a_request_that_fails_alone(
    faulty: Start, reference: list[Seen], fault: str, status: int, code: str
) -> None:
    """The others see a pause. No process ends."""
    server = faulty(fault, tracebacks=fault == "raise")
    children, curse = server.children(), Curse(server)
    streams = Streams(server.url, COUNT, TOKENS)
    seen = streams.run(curse, at=0.3)
    curse.join()
    assert (curse.status, curse.body["error"]["code"]) == (status, code), curse.body
    report(f"F9-{fault}-gap-s", round(streams.longest_gap, 2), 10, timed=True)
    assert outcomes(seen) == outcomes(reference)
    assert server.children() == children
    assert server.metric("octavo:failed_steps_total") >= 1
    assert server.metric("octavo:replayed_requests_total", cause="step") >= 1
    assert server.metric("octavo:request_errors_total", code=code) == 1
    assert server.metric("octavo:process_restarts_total") == 0


def test_f9_one_step_out_of_memory_fails_nobody(faulty: Start, reference: list[Seen]) -> None:
    server = faulty("memory-once")
    seen = Streams(server.url, COUNT, TOKENS).run()
    report("F9-once-wrong", wrong(seen, reference), 0)
    assert server.metric("octavo:failed_steps_total") == 1


def test_f9_one_rank_out_of_memory(faulty: Start, reference: list[Seen]) -> None:
    """The group starts again each time, but it is known why."""
    server = faulty("memory-1", "-tp", "2", tracebacks=True)
    curse = Curse(server)
    seen = Streams(server.url, 2, TOKENS).run(curse, at=0.3)
    curse.join()
    assert (curse.status, curse.body["error"]["code"]) == (503, "out_of_memory"), curse.body
    assert outcomes(seen) == outcomes(reference[:2])
    assert server.metric("octavo:failed_steps_total") == 2
    server.wait_idle()


def test_f11_rows_without_numbers_end_alone(faulty: Start, reference: list[Seen]) -> None:
    """NaN in hidden states, of a prompt too, in keys and in values; +inf, and nothing but -inf, in
    logits. Nothing of such a request is used again, and the same prompt is answered as before."""
    server = faulty("numbers")
    prompts = {asked: f"{asked} is the number of a cursed request. " * 3 for asked in range(47, 53)}
    sound = {asked: complete(server, prompt) for asked, prompt in prompts.items()}
    assert complete(server, prompts[47])[1] > 0, "as with any prompt that has been answered"
    curses = [Curse(server, prompt=prompt, max_tokens=asked) for asked, prompt in prompts.items()]
    seen = Streams(server.url, COUNT, TOKENS).run(lambda: all_of(curses), at=0.3)
    for curse in curses:
        curse.join()
        assert curse.status == 500 and curse.body["error"]["code"] == "numerical_error"
    assert outcomes(seen) == outcomes(reference)
    for asked, prompt in prompts.items():
        assert complete(server, prompt) == sound[asked], "with nothing from the cache"
    assert server.metric("vllm:corrupted_requests_total") == len(curses)
    assert server.metric("octavo:request_errors_total", code="numerical_error") == len(curses)


def all_of(curses: list[Curse]) -> None:
    for curse in curses:
        curse()


def complete(server: Server, prompt: str) -> tuple[str, int]:
    """(text, cached tokens)"""
    answer = server.post("/v1/completions", CURSED | {"prompt": prompt, "max_tokens": 46})
    return answer["choices"][0]["text"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]


@pytest.mark.parametrize(("fault", "ranks", "beside"), [("admit", "1", 8), ("admit-1", "2", 2)])
def test_a_request_that_cannot_be_taken_in(
    faulty: Start, reference: list[Seen], fault: str, ranks: str, beside: int
) -> None:
    """By all ranks, or by one that has no say in results."""
    server = faulty(fault, "-tp", ranks, tracebacks=True)
    curse = Curse(server, prompt_logprobs=1)
    seen = Streams(server.url, beside, TOKENS).run(curse, at=0.3)
    curse.join()
    assert (curse.status, curse.body["error"]["code"]) == (500, "internal_error"), curse.body
    assert outcomes(seen) == outcomes(reference[:beside])
    assert server.metric("octavo:failed_steps_total") == 0
    server.wait_idle()


def test_a_request_that_kills_is_quarantined(faulty: Start, reference: list[Seen]) -> None:
    """Tried again, as SDKs do, it kills nobody more."""
    server = faulty("die")
    curse = Curse(server)
    streams = Streams(server.url, COUNT, TOKENS)
    seen = streams.run(curse, at=0.3)
    curse.join()
    assert curse.status == 500 and curse.body["error"]["code"] == "request_quarantined"
    for seed in range(2):
        again = httpx.post(f"{server.url}/v1/completions", json=CURSED | {"seed": seed}, timeout=9)
        assert again.json()["error"]["code"] == "request_quarantined"
        assert again.headers["x-should-retry"] == "false"
    deaths = sum("worker-0 was killed" in line for line in server.lines)
    report("quarantine", deaths, QUARANTINED_BY)
    assert outcomes(seen) == outcomes(reference)
    assert server.metric("octavo:process_restarts_total", process="worker") == deaths
    assert server.metric("octavo:request_errors_total", code="request_quarantined") == 3


def test_a_request_that_kills_the_scheduler_is_quarantined(
    faulty: Start, reference: list[Seen]
) -> None:
    server = faulty("scheduler")
    curse = Curse(server)
    seen = Streams(server.url, 16, TOKENS).run(curse, at=0.3)
    curse.join()
    assert curse.status == 500 and curse.body["error"]["code"] == "request_quarantined"
    deaths = sum("scheduler-0 was killed" in line for line in server.lines)
    report("scheduler-quarantine", deaths, QUARANTINED_BY, streams=16)
    assert outcomes(seen) == outcomes(reference[:16])


@pytest.mark.slow
def test_several_requests_that_kill_do_not_end_the_server(
    faulty: Start, reference: list[Seen]
) -> None:
    """Each different, so that each has to be found; more deaths than a crash loop's."""
    server = faulty("die")
    curses = [Curse(server, prompt=f"Cursed request {number}.") for number in range(3)]
    seen = Streams(server.url, 16, TOKENS).run(lambda: begin(curses), at=0.3)
    for curse in curses:
        curse.join()
    assert [curse.body["error"]["code"] for curse in curses] == ["request_quarantined"] * 3
    deaths = sum("worker-0 was killed" in line for line in server.lines)
    report("three-quarantined", deaths, 8, streams=16)
    assert deaths <= 8
    assert outcomes(seen) == outcomes(reference[:16])
