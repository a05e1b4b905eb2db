"""Stops are clean: no orphan, no held port."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from octavo_server import Server, alive, port_is_free, serving, wait_for

FLAGS = ("--device", "cpu")


def assert_gone(server: Server, pids: list[int]) -> None:
    wait_for(lambda: not any(alive(pid) for pid in pids), 5)
    wait_for(lambda: port_is_free(server.port), 5)


def test_kill_9_of_the_supervisor_leaves_no_orphan() -> None:
    server = Server(*FLAGS)
    server.wait_ready()
    children = server.children()
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(5)
    assert_gone(server, [*children.values()])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_signals_end_in_order(number: signal.Signals) -> None:
    with serving(*FLAGS) as server:
        children = server.children()
        assert server.stop(number) == 0
        assert_gone(server, [*children.values()])


def test_port_in_use_is_exit_75(server: Server) -> None:
    second = Server(*FLAGS, port=server.port)
    assert second.process.wait(20) == 75


def test_bad_model_is_exit_2(tmp_path: Path) -> None:
    server = Server(str(tmp_path), *FLAGS)
    assert server.process.wait(20) == 2
    assert not any("Traceback" in line for line in server.lines)
