"""F20, F21: a system that gives little, and clocks that jump."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import namespace
import pytest
from fault_checks import COUNT, outcomes, report, wrong
from fault_frontends import running_on_each
from fault_streams import Seen, Streams
from octavo_server import Server, parent_of, wait_for

pytestmark = pytest.mark.slow
Start = Callable[..., Server]
HOOKS = Path(__file__).parent.parent / "support" / "faults"
PYTHONPATH = os.pathsep.join([str(HOOKS), os.environ.get("PYTHONPATH", "")])
STREAMS, TOKENS = 16, 60
LIBRARY = "libfaketimeMT.so.1"
FOREVER = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def test_f20_few_descriptors(start: Start, reference: list[Seen]) -> None:
    """256, and 400 connections: those over the limit wait or are refused; the server goes on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256 if os.getuid() else hard))
    try:
        server = start()
        for pid in (server.process.pid, *server.children().values()):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (256, 256))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    children = server.children()
    clients = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(400)]
    time.sleep(1)
    for client in clients:
        client.close()
    seen = Streams(server.url, STREAMS, TOKENS).run()
    report("F20-descriptors-wrong", wrong(seen, reference), 0, streams=STREAMS)
    assert server.children() == children


@pytest.mark.skipif(not namespace.is_allowed(), reason="no mount namespace may be had here")
@pytest.mark.parametrize("flags", [(), ("-tp", "2"), ("--frontends", "2")])
def test_f20_little_shared_memory(
    start: Start, reference: list[Seen], flags: tuple[str, ...]
) -> None:
    """64 KiB of it are more than is used: none."""
    server = start(*flags, wrap=namespace.with_mount("64k", "/dev/shm"))
    mapped: list[str] = []

    def look() -> None:
        pids = [server.process.pid, *server.children().values()]
        maps = [Path(f"/proc/{pid}/maps").read_text() for pid in pids]
        mapped.extend(line for text in maps for line in text.splitlines() if "/dev/shm" in line)
        mapped.extend(os.listdir(f"/proc/{server.process.pid}/root/dev/shm"))

    seen = Streams(server.url, STREAMS, TOKENS).run(look)
    report("F20-shared-memory-used", len(mapped), 0, streams=STREAMS)
    assert outcomes(seen) == outcomes(reference[:STREAMS]), mapped


def test_f20_a_frontend_without_memory(start: Start, reference: list[Seen]) -> None:
    """What it cannot hold fails, at worst with all of its streams; the other one's go on."""
    server = start("--frontends", "2", tracebacks=True)
    before = server.children()
    poor = before["frontend-0"]
    over = threading.Event()
    statuses: list[int] = []
    eaters = [threading.Thread(target=eat, args=(server, over, statuses)) for _ in range(8)]
    with running_on_each(server, COUNT // 2, 4 * TOKENS) as (_, runs):
        size = int(Path(f"/proc/{poor}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(poor, resource.RLIMIT_AS, (size + (16 << 20), resource.RLIM_INFINITY))
        for eater in eaters:
            eater.start()
        poors, others = (run.result() for run in runs)
    over.set()
    for eater in eaters:
        eater.join()
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(poor, resource.RLIMIT_AS, FOREVER)
    report("F20-memory-failed-requests", sum(one != 400 for one in statuses))
    report("F20-memory-broken-streams", sum(not one.done for one in poors))
    assert any(one != 400 for one in statuses), "it had enough"
    assert 400 in statuses, "the other one had not"
    rights = [*reference[: COUNT // 2]] * 2
    bad = sum(not is_right(*pair) for pair in zip(poors + others, rights, strict=True))
    report("F20-memory-wrong", bad, 0)
    assert all(one.done and len(one.ids) == 4 * TOKENS for one in others)
    assert all(one.done or one.error for one in poors)
    wait_for(lambda: len(server.children()) == 4, 20)
    after = server.children()
    assert {name for name, pid in before.items() if after[name] != pid} <= {"frontend-0"}


def is_right(seen: Seen, right: Seen) -> bool:
    """Whatever came of a longer stream is what the reference begins with."""
    known = min(len(seen.ids), len(right.ids))
    return seen.ids[:known] == right.ids[:known]


def eat(server: Server, over: threading.Event, statuses: list[int]) -> None:
    """Bodies of 7 MiB that no server takes: 400 where there is memory to read them."""
    body = b'{"prompt": "x", "max_tokens": 0.5, "a": "%s"}' % (b"y" * (7 << 20))
    while not over.is_set():
        try:
            answer = httpx.post(f"{server.url}/v1/completions", content=body, timeout=30)
            statuses.append(answer.status_code)
        except httpx.HTTPError:
            statuses.append(0)


# --- the clock ----------------------------------------------------------------------------------


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """Of the wall: seconds by which it is wrong."""
    path = tmp_path / "clock"
    path.write_text("+0s")
    return path


def by_library(clock: Path) -> dict[str, str]:
    """Debian's faketime: every call of the C library."""
    found = sorted(Path("/usr/lib").glob(f"*/faketime/{LIBRARY}"))
    if not found:
        pytest.skip("Debian's package faketime is not installed")
    return {
        "PYTHONPATH": PYTHONPATH,
        "OCTAVO_TEST_PRELOAD": str(found[0]),
        "OCTAVO_TEST_FAKETIME_TIMESTAMP_FILE": str(clock),
        "OCTAVO_TEST_FAKETIME_CACHE_DURATION": "1",
        "OCTAVO_TEST_FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def by_hook(clock: Path) -> dict[str, str]:
    """Python's `time.time`, everywhere."""
    return {"PYTHONPATH": PYTHONPATH, "OCTAVO_TEST_CLOCK": str(clock)}


def family(server: Server) -> Iterator[int]:
    """The server's processes, and theirs."""
    ours = {server.process.pid, *server.children().values()}
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        if pid in ours or parent_of(pid) in ours:
            yield pid


@pytest.mark.parametrize("way", [by_library, by_hook])
def test_f21_the_clock_jumps(
    start: Start, reference: list[Seen], clock: Path, way: Callable[[Path], dict[str, str]]
) -> None:
    """An hour ahead while streams run, then an hour back; no timeout fires."""
    variables = way(clock)
    server = start(env=variables)
    for pid in family(server):  # it is every process's clock
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert all(f"{name}={value}".encode() in environment for name, value in variables.items())
        assert way is by_hook or LIBRARY in Path(f"/proc/{pid}/maps").read_text()
    counters = []
    for step in (3600, -3600):
        streams = Streams(server.url, COUNT, TOKENS)
        seen = streams.run(partial(clock.write_text, f"{step:+}s"))
        report(f"F21-{way.__name__}{step:+}-wrong", wrong(seen, reference), 0)
        created = server.post("/v1/completions", {"prompt": "x", "max_tokens": 1})["created"]
        assert abs(created - time.time() - step) < 60
        counters.append(totals(server))
    falling = [name for name, value in counters[0].items() if counters[1][name] < value]
    report(f"F21-{way.__name__}-falling-metrics", len(falling), 0)
    assert not falling
    report(f"F21-{way.__name__}-restarts", sum("again" in line for line in server.lines), 0)


def totals(server: Server) -> dict[str, float]:
    """Every counter, and every sum and bucket of a histogram."""
    _, text = server.request("GET", "/metrics")
    kinds: dict[str, str] = {}
    found = {}
    for line in text.decode().splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            kinds[name] = kind
        elif not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            base = series.partition("{")[0]
            family = max((one for one in kinds if base.startswith(one)), key=len)
            if kinds[family] in ("counter", "histogram") and not base.endswith("_created"):
                found[series] = float(value)
    assert len(found) > 100
    return found
