"""F2, F29, F30: many deaths, a long load, and random faults, each request's history checked.

`OCTAVO_TEST_SOAK` is how many minutes each goes on (5), `OCTAVO_TEST_SOAK_SEED` which faults (0).
"""

from __future__ import annotations

import os
import random
import signal
import socket
from collections import Counter
from collections.abc import Callable

import pytest
from fault_checks import COUNT, TOKENS, Footprint, outcomes, report
from fault_streams import Seen, Streams
from octavo_server import Server
from soak_load import History, Load, Memory, for_a_while, percentile

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]
Start = Callable[..., Server]
SECONDS = 60 * float(os.environ.get("OCTAVO_TEST_SOAK", "5"))
SEED = int(os.environ.get("OCTAVO_TEST_SOAK_SEED", "0"))


def kill(server: Server, name: str, number: signal.Signals = signal.SIGKILL) -> None:
    pid = server.children().get(name)
    if pid is not None:
        os.kill(pid, number)


def check_end(server: Server, before: Footprint, reference: list[Seen]) -> None:
    before.check()
    assert outcomes(Streams(server.url, 16, TOKENS).run()) == outcomes(reference[:16])
    before.check()


def told(history: History) -> str:
    return f"{history.finished} finished, broken: {dict(Counter(history.broken))}"


def test_f2_a_worker_dies_every_15_seconds(start: Start, reference: list[Seen]) -> None:
    server = start()
    before, memory = Footprint(server), Memory(server)
    with Load(server, reference, 8) as load:

        def each(turn: int) -> None:
            memory.sample()
            if turn % 15 == 10:
                kill(server, "worker-0")

        for_a_while(SECONDS, 1.0, each)
    history = load.history
    report("F2 finished", told(history), "all", 8)
    report("F2 MiB/min", round(memory.slope(), 2), 1, 8)
    assert not history.wrong and not history.broken, (history.wrong, history.broken)
    check_end(server, before, reference)


def test_f29_mixed_load(start: Start, reference: list[Seen]) -> None:
    """5 % leave, 1 % of the requests are bad."""
    server = start()
    before, memory = Footprint(server), Memory(server)
    with Load(server, reference, 16, seed=SEED, leaving=0.05, bad=0.01) as load:
        for_a_while(SECONDS, 1.0, lambda turn: memory.sample())
    history = load.history
    report("F29 finished", told(history), "all", 16)
    report("F29 MiB/min", round(memory.slope(), 2), 0.5, 16)
    report("F29 p99 drift", round(drift(history), 2), 1.1, 16)
    assert not history.wrong and not history.broken, (history.wrong, history.broken)
    check_end(server, before, reference)


def drift(history: History) -> float:
    """p99 of the second half over that of the first, warm-up left out."""
    times = history.times[len(history.times) // 5 :]
    half = len(times) // 2
    parts = [[seconds for _, seconds in part] for part in (times[:half], times[half:])]
    return percentile(parts[1], 0.99) / percentile(parts[0], 0.99)


FAULTS: dict[str, Callable[[Server], None]] = {
    "worker killed": lambda server: kill(server, "worker-0"),
    "scheduler killed": lambda server: kill(server, "scheduler-0"),
    "frontend killed": lambda server: kill(server, "frontend-1"),
    "worker stopped": lambda server: kill(server, "worker-0", signal.SIGSTOP),
    "scheduler stopped": lambda server: kill(server, "scheduler-0", signal.SIGSTOP),
    "clients leave": lambda server: leave(server, COUNT),
}
PER_MINUTE = 4
"""Deaths that the supervisor counts; at five within a minute it gives up."""


HALF = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"


def leave(server: Server, count: int) -> None:
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", server.port), 5) as client:
            client.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"
            )


def test_f30_random_faults(start: Start, reference: list[Seen]) -> None:
    """Whatever was streamed is the beginning of what is right; only a frontend's death breaks
    streams, and those are its own."""
    server = start("--frontends", "2", "--hang-timeout", "3")
    before = Footprint(server)
    rng = random.Random(SEED)
    done: Counter[str] = Counter()
    with Load(server, reference, 16, seed=SEED, leaving=0.05, bad=0.02) as load:

        def each(turn: int) -> None:
            name = rng.choice(list(FAULTS))
            done[name] += 1
            FAULTS[name](server)

        for_a_while(SECONDS, 60 / PER_MINUTE, each)
    history = load.history
    report("F30 faults", dict(done), "", 16)
    report("F30 history", told(history), f"{len(history.wrong)} wrong", 16)
    assert not history.wrong, history.wrong
    broken = len([one for one in history.broken if "Error" in one])  # connections, not events
    assert broken == len(history.broken) and broken <= 16 * done["frontend killed"]
    check_end(server, before, reference)
