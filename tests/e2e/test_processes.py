"""`kill -9` of any process leaves no orphan and no held port; stops are clean."""

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


@pytest.mark.parametrize("victim", ["frontend-0", "scheduler-0", "worker-0"])
def test_death_of_a_child_ends_the_server(victim: str) -> None:
    server = Server(*FLAGS)
    server.wait_ready()
    children = server.children()
    assert set(children) == {"frontend-0", "scheduler-0", "worker-0"}
    os.kill(children[victim], signal.SIGKILL)
    assert server.process.wait(20) not in (0, None)
    assert any(victim in line for line in server.lines)
    assert_gone(server, [*children.values()])


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
