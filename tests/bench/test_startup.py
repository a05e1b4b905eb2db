"""What startup.py reads off the server's output."""

from __future__ import annotations

import pytest

from bench.startup import own_seconds, phases
from octavo.services.supervisor.progress import describe
from octavo.shared.process import Status

LINES = [
    (0.5, "starting"),
    (5.0, "supervisor INFO loading weights 34 % (5.1 of 15.0 GB, 2.3 GB/s)"),
    (10.0, "supervisor INFO loading weights 90 % (13.5 of 15.0 GB, 2.3 GB/s)"),
    (15.0, "supervisor INFO loading CUDA graphs 50 % (10 of 20)"),
    (17.2, "Ready in 17.1 s  http://127.0.0.1:8000/v1  model=x"),
]


def test_phases() -> None:
    assert phases(LINES) == {"weights": [5.0, 10.0], "CUDA graphs": [15.0, 15.0]}
    assert own_seconds(LINES) == 17.1


def test_nothing_said() -> None:
    assert (phases([(0.1, "hello")]), own_seconds([])) == ({}, None)


@pytest.mark.parametrize("total", [0, 20])
def test_reads_what_the_server_writes(total: int) -> None:
    line = describe(Status(state="loading", phase="kernels", done=10, total=total), 1.0)
    assert list(phases([(1.0, line)])) == ["kernels"]
