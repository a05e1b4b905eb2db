"""Thousands of generated requests leave a real server as they found it.

`OCTAVO_TEST_FUZZ` is how many (20,000), `OCTAVO_TEST_FUZZ_SEED` which (0).
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from fuzz_client import Verdict, fuzz
from fuzz_requests import Fuzzer
from octavo_server import Server, serving

COUNT = int(os.environ.get("OCTAVO_TEST_FUZZ", "20000"))
SEED = int(os.environ.get("OCTAVO_TEST_FUZZ_SEED", "0"))
WARM_UP = COUNT // 4
MAX_GROWTH = 64 << 20
"""Bytes that all processes together may grow by after the first quarter: arenas, not leaks."""


def resident_bytes(server: Server) -> dict[str, int]:
    """Memory of each of the server's processes, without what is shared with files."""
    pids = {"supervisor": server.process.pid, **server.children()}
    return {name: _anonymous(pid) for name, pid in pids.items()}


def _anonymous(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no RssAnon for {pid}")


def send(server: Server, numbers: range) -> Verdict:
    fuzzer = Fuzzer(SEED)
    return asyncio.run(fuzz(server.port, fuzzer, numbers))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_generated_requests() -> None:
    with serving("--device", "cpu", "--served-model-name", "demo") as server:
        verdicts = [send(server, range(WARM_UP))]
        server.wait_idle(60)
        before = resident_bytes(server)
        verdicts.append(send(server, range(WARM_UP, COUNT)))
        server.wait_idle(60)
        after = resident_bytes(server)
        faults = [fault for verdict in verdicts for fault in verdict.faults]
        counts = sum((verdict.statuses for verdict in verdicts), start=type(verdicts[0].statuses)())
        print(dict(counts), {name: (before.get(name), size) for name, size in after.items()})
        assert faults == [], "\n".join(faults[:20])
        assert not [line for line in server.lines if "Traceback" in line or "failed" in line]
        assert before.keys() == after.keys()
        assert sum(after.values()) - sum(before.values()) < MAX_GROWTH
        assert server.stop() == 0
