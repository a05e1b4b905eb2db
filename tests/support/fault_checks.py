"""What must hold after a fault, whatever it was, and the line that tells its figure."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fault_streams import Seen, Streams
from machine import slowness
from octavo_server import Server, alive, wait_for

COUNT = int(os.environ.get("OCTAVO_TEST_STREAMS", "16"))
TOKENS = 60
FLAGS = ("--device", "cpu")
AFTER_COUNT, AFTER_TOKENS = 16, 16
"""Requests that every server answers after its fault, as it would have before."""
SHARED_MEMORY = "/dev/shm"
HOOKS = Path(__file__).parent / "faults"
PIPES_EACH = 2
CEILING = 4
waived: list[str] = []
"""Lines of figures over their limit, where others kept the machine busy: for the end of the run."""


def hooked(fault: str) -> dict[str, str]:
    """Variables of a server whose processes meet this fault of HOOKS."""
    path = os.pathsep.join([str(HOOKS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, "OCTAVO_TEST_FAULT": fault}


def outcomes(seen: Sequence[Seen]) -> list[tuple[object, ...]]:
    return [one.outcome for one in seen]


def wrong(seen: Sequence[Seen], reference: Sequence[Seen]) -> int:
    """Streams that did not see what the reference has, to the last id."""
    return sum(one.outcome != right.outcome for one, right in zip(seen, reference, strict=False))


class Footprint:
    """What a server holds of the system, to be the same after a fault as before.

    `reference`: what the requests of `body_of` get elsewhere, as far as that is known.
    `tracebacks`: whether the log may have some. `told`: characters of it that are others' affair.
    """

    def __init__(
        self,
        server: Server,
        reference: Sequence[Seen],
        *,
        tracebacks: bool = False,
        told: int = 0,
    ) -> None:
        self._server = server
        self._reference = reference
        self._tracebacks = tracebacks
        self._told = told
        self._shared_memory = set(os.listdir(SHARED_MEMORY))
        self._children = server.children()
        self._descriptors = {pid: descriptors(pid) for pid in self._pids()}

    def _pids(self) -> list[int]:
        return [self._server.process.pid, *self._server.children().values()]

    def check(self) -> None:
        """Everybody is there again, nothing is left of the fault, and answers are right."""
        server = self._server
        if server.process.poll() is not None:
            self._check_gone()
            return
        wait_for(lambda: set(server.children()) == set(self._children), 20)
        wait_for(lambda: server.request("GET", "/health")[0] == 200, 20)
        self._check_answers()
        server.wait_idle(20)
        settle(lambda: zombies(self._pids()))
        settle(self._leaks)
        if not self._tracebacks:
            output = server.output[self._told :]
            assert "Traceback" not in output, output

    def _check_gone(self) -> None:
        settle(lambda: [f"{pid} is alive" for pid in self._descriptors if alive(pid)])
        settle(self._new_segments)

    def _check_answers(self) -> None:
        seen = Streams(self._server.url, AFTER_COUNT, AFTER_TOKENS).run()
        assert [one.error for one in seen if not one.done] == []
        for one, right in zip(seen, self._reference, strict=False):
            assert one.ids == right.ids[:AFTER_TOKENS] and right.text.startswith(one.text)

    def _leaks(self) -> list[str]:
        """Of processes that are still the same, descriptors; of all, shared memory."""
        now = {pid: descriptors(pid) for pid in self._pids()}
        changed = [
            f"{pid} had {before} descriptors, has {now[pid]}"
            for pid, before in self._descriptors.items()
            if pid in now and now[pid] != before
        ]
        return changed + self._new_segments()

    def _new_segments(self) -> list[str]:
        found = sorted(set(os.listdir(SHARED_MEMORY)) - self._shared_memory)
        return [name for name in found if not is_others(name, self._pids())]


def settle(problems: Callable[[], list[str]], seconds: float = 10) -> None:
    """Wait until there are none."""
    deadline = time.monotonic() + seconds
    while found := problems():
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def is_others(segment: str, ours: Sequence[int]) -> bool:
    """Whether a process that is none of ours has this shared memory."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            if f"{SHARED_MEMORY}/{segment}" in maps.read_text():
                return int(maps.parent.name) not in ours
    return False


def descriptors(pid: int) -> int:
    """But for the pipes of its helpers, who come when they are wanted."""
    return len(os.listdir(f"/proc/{pid}/fd")) - PIPES_EACH * len(offspring([pid]))


def zombies(parents: Sequence[int]) -> list[str]:
    return [name for name, state in offspring(parents) if state == "Z"]


def offspring(parents: Sequence[int]) -> list[tuple[str, str]]:
    """(name, state) of their children."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = entry.read_text().rpartition(")")
            state, parent = rest.split()[:2]
            found += [(name, state)] if int(parent) in parents else []
    return found


def report(
    fault: str,
    value: float,
    limit: float | None = None,
    *,
    at_least: bool = False,
    seed: int = 0,
    streams: int = COUNT,
    timed: bool = False,
    ceiling: float | None = None,
) -> None:
    """Print the line that machines read; fails where the value is over the limit (`at_least`: under
    it).

    `timed`: a machine that others keep busy is held to `ceiling` alone: where nothing else is said,
    to CEILING times the limit or a CEILINGth of it, and by as much more as it is slower.
    """
    bound = f">={limit}" if at_least else limit
    words = {"fault": fault, "seed": seed, "streams": streams, "value": value, "limit": bound}
    line = " ".join(f"{name}={str(word).replace(' ', '_')}" for name, word in words.items())
    passed = is_within(value, limit, at_least)
    waives = not passed and timed and not is_quiet()
    if waives and is_within(value, ceiling or far(limit, at_least), at_least):
        waived.append(line)
        print(f"{line} pass=waived")
        return
    print(f"{line} pass={'yes' if passed else 'no'}")
    assert passed, line


def is_within(value: float, limit: float | None, at_least: bool) -> bool:
    if limit is None:
        return True
    return value >= limit if at_least else value <= limit


def far(limit: float | None, at_least: bool) -> float | None:
    """What no company excuses, on a machine as fast as this one is now."""
    if limit is None:
        return None
    factor = CEILING * slowness()
    return limit / factor if at_least else limit * factor


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def is_quiet() -> bool:
    """Whether nobody else keeps this machine busy, from outside it neither: else figures of time
    are not the server's."""
    before = _busy_and_all()
    time.sleep(0.5)
    busy, total = (now - then for now, then in zip(_busy_and_all(), before, strict=True))
    return busy < 0.15 * total and slowness() == 1


def _busy_and_all() -> tuple[int, int]:
    """Ticks of all processors."""
    line = Path("/proc/stat").read_text().splitlines()[0]
    ticks = [int(word) for word in line.split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)
