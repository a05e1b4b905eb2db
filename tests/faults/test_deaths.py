"""F1, F3, F4, F5, F6, F7, F8: processes that die or hang under streams."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fault_checks import COUNT, TOKENS, outcomes, report, wrong
from fault_frontends import running_on_each
from fault_streams import Seen, Streams, longest
from octavo_server import Server, alive, port_is_free, wait_for

from octavo.services.supervisor.admin import ask, default_path

Start = Callable[..., Server]
HANG = ("--hang-timeout", "4")
HOOKS = Path(__file__).parents[1] / "support" / "faults"
HOOKED = [str(HOOKS), *filter(None, [os.environ.get("PYTHONPATH")])]
RUNNING = "vllm:num_requests_running"
GAP_SECONDS = 5.0
"""A stream may pause for so long where a process dies. Where it hangs, for HANG's seconds more."""
LATE_SECONDS = 10.0
"""And all may end so much later than they would have."""


def strike(server: Server, victim: str, number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(server.children()[victim], number)


@pytest.mark.parametrize(
    ("test", "victim", "number", "hang"),
    [
        ("F1", "worker-0", signal.SIGKILL, 0.0),
        ("F3", "scheduler-0", signal.SIGKILL, 0.0),
        ("F7", "worker-0", signal.SIGSTOP, 6.0),
        ("F8", "scheduler-0", signal.SIGSTOP, 6.0),
    ],
)
def test_streams_go_on(
    start: Start,
    reference: list[Seen],
    test: str,
    victim: str,
    number: signal.Signals,
    hang: float,
) -> None:
    """Nobody sees more than a pause: ids, text, logprobs and usage are those of the reference."""
    server = start(*HANG)
    role = victim.partition("-")[0]
    check_a_pause(server, reference, test, strike(server, victim, number), role, hang)


def test_f7_a_kernel_that_does_not_end(start: Start, reference: list[Seen], tmp_path: Path) -> None:
    """The worker's loop turns, and its results do not come."""
    stuck = tmp_path / "stuck"
    environ = {"OCTAVO_TEST_FAULT": "stuck", "OCTAVO_TEST_STUCK": str(stuck)}
    server = start(*HANG, env={**environ, "PYTHONPATH": os.pathsep.join(HOOKED)})
    check_a_pause(server, reference, "F7 stuck", stuck.touch, "worker", 6.0)


def check_a_pause(
    server: Server,
    reference: list[Seen],
    test: str,
    fault: Callable[[], None],
    role: str,
    hang: float,
) -> None:
    streams = Streams(server.url, COUNT, TOKENS)
    seen = streams.run(fault)
    assert outcomes(seen) == outcomes(reference)
    report(f"{test}-gap-s", round(streams.longest_gap, 2), GAP_SECONDS + hang, timed=True)
    limit = round(longest(reference) + LATE_SECONDS + hang, 1)
    report(f"{test}-total-s", round(longest(seen), 1), limit, timed=True)
    assert sum("starting it again" in line for line in server.lines) == 1
    check_counters(server, role, seen)


def check_counters(server: Server, role: str, seen: list[Seen]) -> None:
    """They tell of the death, and of nothing that was not: nobody had to queue."""
    metric = server.metric
    assert metric("octavo:process_restarts_total", process=role) == 1
    assert metric("octavo:process_restarts_total") == 1
    replayed = metric("octavo:replayed_requests_total", cause="workers")
    assert replayed > 0 if role == "worker" else replayed == 0
    assert metric("octavo:request_errors_total") == 0
    parts = [metric(f"vllm:request_{part}_time_seconds_sum") for part in ("queue", "prefill")]
    assert min(parts) >= 0 and sum(parts) <= sum(one.first for one in seen)


def test_f1_two_ranks(start: Start, reference: list[Seen]) -> None:
    """The group is replaced as one."""
    server = start("-tp", "2", tracebacks=True)
    seen = Streams(server.url, 8, TOKENS).run(strike(server, "worker-1", signal.SIGKILL))
    report("F1-two-ranks-wrong", wrong(seen, reference), 0, streams=8)


def test_f4_a_frontend_dies_with_its_own_streams_alone(start: Start, reference: list[Seen]) -> None:
    """All of them and no other's; what they held is free at once, and another takes its place."""
    count, tokens = COUNT // 2, 3 * TOKENS
    server = start("--frontends", "2")
    before = server.children()
    with running_on_each(server, count, tokens) as (streams, runs):
        assert server.metric(RUNNING) == 2 * count
        strike(server, "frontend-0", signal.SIGKILL)()
        died = time.monotonic()
        assert longest_of(streams[1]) < TOKENS, "the rest is compared with the reference"
        assert httpx.get(f"{server.url}/v1/models", timeout=10).status_code == 200
        connected = time.monotonic() - died
        wait_for(lambda: server.metric(RUNNING) <= count, 10)
        freed = time.monotonic() - died
        assert longest_of(streams[1]) < tokens, "these might have made room by their own end"
        wait_for(lambda: is_ready(server, "frontend-0", before["frontend-0"]), 20)
        replaced = time.monotonic() - died
        lost, kept = (run.result() for run in runs)
    assert all(one.ids and one.error and not one.done for one in lost)
    assert all(one.done and len(one.ids) == tokens for one in kept), kept
    assert [one.ids[:TOKENS] for one in kept] == [one.ids for one in reference[:count]]
    after = server.children()
    assert {name for name, pid in before.items() if after[name] != pid} == {"frontend-0"}
    report("F4-connect-s", round(connected, 2), 1, timed=True)
    report("F4-freed-s", round(freed, 2), 2, timed=True)
    report("F4-replaced-s", round(replaced, 2), 3, timed=True)


def longest_of(streams: Streams) -> int:
    """Tokens of the stream that has most."""
    return max(len(one.ids) for one in streams.seen)


def is_ready(server: Server, name: str, old: int) -> bool:
    """Whether its place is filled by another."""
    processes = ask(default_path(server.port), "status")["processes"]
    places = [(one["name"], one["state"]) for one in processes if one["pid"] != old]
    return (name, "ready") in places


def test_f5_kill_9_of_the_supervisor_lets_the_next_start(start: Start) -> None:
    server = start()
    children = server.children()
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(5)
    died = time.monotonic()
    wait_for(lambda: not any(alive(pid) for pid in children.values()), 10)
    report("F5-gone-s", round(time.monotonic() - died, 2), 3, timed=True)
    wait_for(lambda: port_is_free(server.port), 1)  # a process' threads go a little later
    start(port=server.port)


def test_f6_a_worker_that_dies_at_every_start(start: Start) -> None:
    """The server gives up with its sixth death, says so, and tells those who wait: in their
    streams, and whoever has got nothing yet by an answer."""
    server = start()
    streams = Streams(server.url, 4, 1900)
    deaths: dict[int, float] = {}

    def die_again_and_again() -> None:
        while server.process.poll() is None and time.monotonic() - began < 60:
            if worker := server.children().get("worker-0"):
                os.kill(worker, signal.SIGKILL)
                deaths.setdefault(worker, time.monotonic())
            time.sleep(0.05)

    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(streams.run)
        waiting = pool.submit(wait_for_all, server, 1900)
        wait_for(lambda: streams.begun and server.metric(RUNNING) == 5, 30)
        began = time.monotonic()
        die_again_and_again()
    assert server.process.wait(10) == 70
    report("F6-exit-s", round(time.monotonic() - began, 1), 60, streams=4, timed=True)
    report("F6-deaths", len(deaths), 6, streams=4)
    assert [one.error for one in running.result()] == ["engine_dead"] * 4
    answer, answered = waiting.result()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_dead")
    report("F6-answered-s", round(answered - max(deaths.values()), 2), 2, streams=1, timed=True)


def wait_for_all(server: Server, max_tokens: int) -> tuple[httpx.Response, float]:
    """An answer that is no stream, and when it came."""
    body = {"prompt": "a", "max_tokens": max_tokens, "ignore_eos": True}
    answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=120)
    return answer, time.monotonic()
