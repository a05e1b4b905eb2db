"""F2, F29, F30: many deaths, a long load, and random faults, each request's history checked.

`OCTAVO_TEST_SOAK` is how many minutes each goes on (5; 30 are 200 faults of F30), and
`OCTAVO_TEST_SOAK_SEED` which faults, in which order (0).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_checks import hooked, percentile, report
from fault_list import FAULTS, Scene, schedule
from fault_streams import Seen
from octavo_server import Server
from soak_load import History, Load, Memory, for_a_while

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]
Start = Callable[..., Server]
SECONDS = 60 * float(os.environ.get("OCTAVO_TEST_SOAK", "5"))
SEED = int(os.environ.get("OCTAVO_TEST_SOAK_SEED", "0"))
CLIENTS = 16
FAULT_EVERY = 9.0
"""Seconds."""


def test_f2_a_worker_dies_every_15_seconds(start: Start, reference: list[Seen]) -> None:
    server = start()
    memory = Memory(server)
    with Load(server, reference, CLIENTS, seed=SEED) as load:

        def each(turn: int) -> None:
            memory.sample()
            if turn % 15 == 10:
                os.kill(server.children()["worker-0"], signal.SIGKILL)

        for_a_while(SECONDS, 1.0, each)
    check_all_finished("F2", load.history)
    report(
        "F2-MiB-per-minute", round(memory.slope(), 2), memory.limit(1), seed=SEED, streams=CLIENTS
    )


def test_f29_mixed_load(start: Start, reference: list[Seen]) -> None:
    """5 % leave, 1 % of the requests are bad. That no block is lost the end of every test shows."""
    server = start()
    memory = Memory(server)
    with Load(server, reference, CLIENTS, seed=SEED, leaving=0.05, bad=0.01) as load:
        for_a_while(SECONDS, 1.0, lambda turn: memory.sample())
    server.wait_idle(20)
    check_all_finished("F29", load.history)
    report(
        "F29-MiB-per-minute",
        round(memory.slope(), 2),
        memory.limit(0.5),
        seed=SEED,
        streams=CLIENTS,
    )
    drifted = round(drift(load.history), 2)
    report("F29-p99-drift", drifted, 1.1, seed=SEED, streams=CLIENTS, timed=True)


def check_all_finished(fault: str, history: History) -> None:
    report(f"{fault}-finished", history.finished, seed=SEED, streams=CLIENTS)
    report_late(fault, history)
    failed = [*history.wrong, *history.broken, *history.refused]
    report(f"{fault}-failed", len(failed), 0, seed=SEED, streams=CLIENTS)


def report_late(fault: str, history: History) -> None:
    """A busy machine may be too slow for one request in twenty."""
    few = history.finished / 20
    report(f"{fault}-late", history.late, 0, seed=SEED, streams=CLIENTS, timed=True, ceiling=few)


def drift(history: History) -> float:
    """p99 of the second half over that of the first, warm-up left out."""
    times = history.times[len(history.times) // 5 :]
    half = len(times) // 2
    parts = [[seconds for _, seconds in part] for part in (times[:half], times[half:])]
    return percentile(parts[1], 0.99) / percentile(parts[0], 0.99)


def test_f30_random_faults(
    sockets: Path, tmp_path: Path, start: Start, reference: list[Seen]
) -> None:
    """Whatever was streamed is the beginning of what is right, and every request ends. Only a
    frontend's death breaks streams, and those are its own."""
    scene = scene_of(start, sockets, tmp_path / "clock")
    order = schedule(SEED, int(SECONDS / FAULT_EVERY), FAULT_EVERY)
    with Load(scene.server, reference, CLIENTS, seed=SEED, leaving=0.05, bad=0.02) as load:

        def each(turn: int) -> None:
            print(f"fault=F30 seed={SEED} turn={turn} at={time.monotonic():.1f} {order[turn]}")
            assert scene.server.process.poll() is None, "\n".join(scene.server.lines[-50:])
            FAULTS[order[turn]].strike(scene)

        for_a_while(len(order) * FAULT_EVERY, FAULT_EVERY, each)
    scene.close()
    history, done = load.history, Counter(order)
    print(f"fault=F30 seed={SEED} {dict(done)}")
    print(f"fault=F30 seed={SEED} {history.summary}")
    assert not history.wrong and not scene.odd, (history.wrong, scene.odd)
    report("F30-faults", len(order), seed=SEED, streams=CLIENTS)
    report("F30-wrong", len(history.wrong) + len(scene.odd), 0, seed=SEED, streams=CLIENTS)
    may_break = CLIENTS * sum(n for name, n in done.items() if FAULTS[name].breaks_streams)
    report_late("F30", history)
    report("F30-broken", len(history.broken), may_break, seed=SEED, streams=CLIENTS)


def scene_of(start: Start, sockets: Path, clock: Path) -> Scene:
    clock.write_text("+0s")
    hooks = hooked("any") | {"OCTAVO_TEST_CLOCK": str(clock)}
    flags = ("--frontends", "2", "--hang-timeout", "5")
    server = start(*flags, tracebacks=True, env={"TMPDIR": str(sockets), **hooks})
    return Scene(server, sockets, clock, random.Random(SEED))
