"""F1g, F3, F9, F10 and F18 on a GPU: `make faults-gpu`.

OCTAVO_TEST_GPU_MODEL names another model than the demo, with its flags:
"/tmp/llama --load-format dummy --max-model-len 8192".
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fault_checks import Footprint, hooked, report
from fault_streams import Seen, Streams
from octavo_server import Server, wait_for

MODEL = shlex.split(os.environ.get("OCTAVO_TEST_GPU_MODEL", ""))
COUNT, TOKENS = 64, 200
RELOAD_SECONDS = 30.0
LONG = [number % 1000 + 300 for number in range(6000)]

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]
Start = Callable[..., Server]


@pytest.fixture
def start() -> Iterator[Start]:
    with contextlib.ExitStack() as end:

        def make(*flags: str, fault: str = "") -> Server:
            server = Server(*MODEL, *flags, env=hooked(fault))
            end.callback(stop, server)
            server.wait_ready()
            run(server)  # of the prefix cache, the runs that count see the same
            end.callback(Footprint(server, [], tracebacks=bool(fault)).check)
            return server

        yield make


def stop(server: Server) -> None:
    if server.process.poll() is None:
        assert server.stop() == 0, "\n".join(server.lines)


def run(server: Server, fault: Callable[[], None] | None = None) -> Streams:
    streams = Streams(server.url, COUNT, TOKENS)
    streams.run(fault, at=0.5)
    assert [one.error for one in streams.seen if not one.done] == [], "\n".join(server.lines)
    return streams


def kill(server: Server, victim: str) -> None:
    os.kill(server.children()[victim], signal.SIGKILL)


def ids(seen: list[Seen]) -> list[list[int]]:
    return [one.ids for one in seen]


def memory_used() -> int:
    """MiB of the first GPU."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(command, capture_output=True, text=True).stdout.split()[0])


def num_gpus() -> int:
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


@pytest.mark.parametrize("flags", [(), ("--deterministic",)])
def test_f1g_f3_f18_deaths(start: Start, flags: tuple[str, ...]) -> None:
    """64 of 64 finish; with --deterministic their ids are those of a run without a death."""
    idle = memory_used()
    server = start(*flags)
    reference = ids(run(server).seen)
    for test, victim in (("F1g", "worker-0"), ("F3", "scheduler-0")):
        streams = run(server, functools.partial(kill, server, victim))
        report(
            "".join([test, *flags, "-gap-s"]),
            round(streams.longest_gap, 2),
            RELOAD_SECONDS,
            streams=COUNT,
        )
        assert not flags or ids(streams.seen) == reference
        server.wait_idle(30)
    assert not flags or ids(run(server).seen) == reference
    assert server.stop() == 0
    wait_for(lambda: memory_used() <= idle, 10)


@pytest.mark.skipif(not MODEL, reason="the demo model is there too soon")
@pytest.mark.parametrize("state", ["loading", "warming"])
def test_f18_a_stop_in_the_middle_of_a_start(state: str) -> None:
    """While weights are read or made, and while graphs are captured."""
    idle = memory_used()
    server = Server(*MODEL)
    try:
        wait_for(lambda: state_of(server) == state, 120)
        time.sleep(0.5)
        assert state_of(server) == state and memory_used() > idle
        began = time.monotonic()
        assert server.stop() == 0
        report(f"F18-{state}-s", round(time.monotonic() - began, 2), 5)
        wait_for(lambda: memory_used() <= idle, 10)
    finally:
        server.process.kill()


def state_of(server: Server) -> str:
    """Empty: nobody answers yet."""
    with contextlib.suppress(OSError):
        return str(json.loads(server.request("GET", "/health/live")[1])["state"])
    return ""


@pytest.mark.multigpu
@pytest.mark.skipif(num_gpus() < 2, reason="needs two GPUs")
def test_f1g_one_of_two_ranks(start: Start) -> None:
    """The other waits inside a collective, and is replaced with it."""
    server = start("-tp", "2")
    streams = run(server, functools.partial(kill, server, "worker-1"))
    gap = round(streams.longest_gap, 2)
    report("F1g-one-of-two-ranks-gap-s", gap, RELOAD_SECONDS, streams=COUNT)
    server.wait_idle(30)


@pytest.mark.skipif(not MODEL, reason="the demo model asks for next to no memory")
def test_f9_ballast(start: Start) -> None:
    """A prompt that there is no memory for gets 503; the others a pause, and no process ends."""
    server = start(fault="ballast")
    children = server.children()
    long: dict[str, Any] = {"prompt": LONG, "max_tokens": 47, "ignore_eos": True}
    answers: list[tuple[int, bytes]] = []

    def curse() -> None:
        answers.append(server.request("POST", "/v1/completions", long, timeout=120))

    streams = run(server, curse)
    status, body = answers[0]
    assert status == 503 and b"out_of_memory" in body, (status, body)
    assert server.metric("octavo:failed_steps_total") >= 1 and server.children() == children
    report("F9-ballast-gap-s", round(streams.longest_gap, 2), 10, streams=COUNT)
    server.wait_idle(30)
    long["max_tokens"] = 4  # no curse
    assert server.request("POST", "/v1/completions", long, timeout=120)[0] == 200


def ask(server: Server, max_tokens: int, repeated: int = 20) -> tuple[int, Any]:
    """(status, answer) of a prompt of some blocks, another one for each `max_tokens`."""
    prompt = f"{max_tokens} is the number of a cursed request. " * repeated
    body = {"prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True, "temperature": 0}
    status, answer = server.request("POST", "/v1/completions", body, timeout=120)
    return status, json.loads(answer)


def test_f11_rows_without_numbers(start: Start) -> None:
    """NaN in hidden states, keys and values, infinities in logits: each ends its own request."""
    server = start(fault="numbers")
    run(server)
    answers: list[tuple[int, Any]] = []

    def curse() -> None:
        with ThreadPoolExecutor() as pool:
            answers.extend(pool.map(functools.partial(ask, server), range(47, 53)))

    run(server, curse)
    assert [status for status, _ in answers] == [500] * 6
    assert {answer["error"]["code"] for _, answer in answers} == {"numerical_error"}
    assert ask(server, 46)[0] == 200
    server.wait_idle(30)


@pytest.mark.multigpu
@pytest.mark.skipif(num_gpus() < 2, reason="needs two GPUs")
@pytest.mark.parametrize(
    ("fault", "expected"),
    [("memory-1", (503, "out_of_memory")), ("admit-1", (500, "internal_error"))],
)
def test_f9_what_fails_on_one_rank(start: Start, fault: str, expected: tuple[int, str]) -> None:
    server = start("-tp", "2", fault=fault)
    answers: list[tuple[int, Any]] = []
    run(server, lambda: answers.append(ask(server, 47)))
    ((status, answer),) = answers
    assert (status, answer["error"]["code"]) == expected
    server.wait_idle(60)


def test_f10_illegal_access(start: Start) -> None:
    """A request that breaks the device each time: it ends, in quarantine, and nobody else."""
    server = start(fault="illegal")
    cursed = {"prompt": "cursed", "max_tokens": 47, "ignore_eos": True}
    answers = []

    def curse() -> None:
        status, body = server.request("POST", "/v1/completions", cursed, timeout=300)
        answers.append((status, b"request_quarantined" in body))

    started = time.monotonic()
    streams = run(server, curse)
    assert answers == [(500, True)]
    report("F10-gap-s", round(streams.longest_gap, 2), streams=COUNT)
    report("F10-quarantine-s", round(time.monotonic() - started, 1), streams=COUNT)
    server.wait_idle(60)
