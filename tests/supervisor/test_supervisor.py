"""The supervisor over fake children: handshake, deaths, signals, exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from house_supervisor import Served, alive, connects, wait_until


def test_serves_when_all_are_ready_and_stops_in_order(
    tmp_path: Path, serving: list[Served]
) -> None:
    served = Served(tmp_path, ranks=2, frontends=2)
    serving.append(served)
    line = served.ready()
    assert line.startswith("Ready in ")
    assert f"http://127.0.0.1:{served.port}/v1  model=fake  context=128  " in line
    assert "kv=1,600 tokens (12.5x concurrent)" in line
    assert connects(served.port) in ("frontend-0", "frontend-1")
    served.process.send_signal(signal.SIGTERM)
    assert served.finish()[0] == 0
    order = [name.split("-")[0] for name in served.events("sigterm")]
    assert order == ["frontend", "frontend", "scheduler", "worker", "worker"]
    assert len(served.events("ended")) == 5
    assert connects(served.port) is None
    assert list(served.sockets.iterdir()) == []


def test_the_exporter_stops_behind_the_frontends(tmp_path: Path, serving: list[Served]) -> None:
    served = Served(tmp_path, exporter=True)
    serving.append(served)
    served.ready()
    assert connects(served.metrics_port) == "exporter-0"
    assert connects(served.port) == "frontend-0"
    served.process.send_signal(signal.SIGTERM)
    assert served.finish()[0] == 0
    order = list(served.events("sigterm"))
    assert order == ["frontend-0", "exporter-0", "scheduler-0", "worker-0"]
    assert connects(served.metrics_port) is None


@pytest.mark.parametrize(("host", "warns"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_an_open_door_is_warned_of(
    tmp_path: Path, serving: list[Served], host: str, warns: bool
) -> None:
    served = Served(tmp_path, environ={"OCTAVO_TEST_HOST": host})
    serving.append(served)
    served.ready()
    served.process.send_signal(signal.SIGTERM)
    assert ("no API keys: whoever reaches http://" in served.finish()[1]) == warns


def test_is_open_from_the_beginning(tmp_path: Path, serving: list[Served]) -> None:
    """And what is being loaded is told to those who answer there."""
    served = Served(tmp_path, {"worker-0": "hang"})
    serving.append(served)
    served.wait_for("started", 3)
    assert connects(served.port) == "frontend-0"
    wait_until(lambda: 'frontend-0 state-{"state":"loading","progress":"load' in served.said())
    assert 'frontend-0 state-{"state":"ready"' not in served.said()
    served.process.send_signal(signal.SIGTERM)
    assert served.finish()[0] == 0


@pytest.mark.parametrize(
    ("behaviour", "code", "says"),
    [
        ("refuse", 2, "octavo: error: the model needs 16.1 GiB, the device has 8.0 GiB\n"),
        ("break", 1, "octavo: error: RuntimeError: a bug of ours\n"),
        ("die", 70, "5 restarts within 60 s did not help; stopping\n"),
    ],
)
def test_a_failed_start_ends_with_its_code_and_reason(
    tmp_path: Path, serving: list[Served], behaviour: str, code: int, says: str
) -> None:
    served = Served(tmp_path, {"worker-0": behaviour})
    serving.append(served)
    found, errors = served.finish()
    assert (found, says in errors) == (code, True), errors
    assert not any(alive(pid) for pid in served.events("started").values())


def test_no_orphan_survives_kill_9_of_the_supervisor(tmp_path: Path, serving: list[Served]) -> None:
    served = Served(tmp_path, {"worker-0": "stubborn"})
    serving.append(served)
    served.ready()
    pids = served.events("started")
    assert len(list(served.sockets.iterdir())) == 2, "the folder of sockets, and the admin socket"
    served.process.kill()
    wait_until(lambda: not any(alive(pid) for pid in pids.values()), seconds=3)
    wait_until(lambda: connects(served.port) is None, seconds=1)  # its threads go a little later


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_loading_is_quick_and_clean(
    tmp_path: Path, serving: list[Served], number: signal.Signals
) -> None:
    served = Served(tmp_path, {"worker-0": "hang"})
    serving.append(served)
    pids = served.wait_for("started", 3)
    served.process.send_signal(number)
    assert served.finish(5)[0] == 0
    assert not any(alive(pid) for pid in pids.values())


EARLY = """
import os, signal, sys
install = signal.signal
def installed(number, handler):
    install(number, handler)
    if number == signal.%s:
        print(sorted({"msgspec", "octavo.shared.errors"} & sys.modules.keys()), flush=True)
        os.kill(os.getpid(), number)
signal.signal = installed
sys.argv = ["octavo", "serve"]
from octavo.services.launch import main
main()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_stop_is_heard_before_anything_is_imported(name: str) -> None:
    argv = [sys.executable, "-c", EARLY % name]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_a_child_that_will_not_stop_is_killed(tmp_path: Path, serving: list[Served]) -> None:
    served = Served(tmp_path, {"worker-0": "stubborn"})
    serving.append(served)
    served.ready()
    served.process.send_signal(signal.SIGTERM)
    code, errors = served.finish()
    assert code == 0
    assert "worker-0 did not stop, killing it" in errors


def test_a_second_signal_ends_the_wait(tmp_path: Path, serving: list[Served]) -> None:
    served = Served(tmp_path, {"frontend-0": "stubborn"}, shutdown_timeout=60)
    serving.append(served)
    served.ready()
    served.process.send_signal(signal.SIGTERM)
    served.wait_for("sigterm", 1)
    asked = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    assert served.finish()[0] == 0
    assert time.monotonic() - asked < 5


def test_tells_the_service_manager(tmp_path: Path, serving: list[Served]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address = str(tmp_path / "notify")
        manager.bind(address)
        manager.settimeout(10)
        served = Served(tmp_path, shutdown_timeout=300, environ={"NOTIFY_SOCKET": address})
        serving.append(served)
        said = [next_word(manager) for _ in range(3)]
        assert said[:2] == [
            b"STATUS=starting",
            b"STATUS=loading weights 25 % (1.0 of 4.0 B)",
        ]
        assert said[2].startswith(b"READY=1\nSTATUS=Ready in ")
        served.process.send_signal(signal.SIGTERM)
        name, status, longer = next_word(manager).split(b"\n")
        assert (name, status) == (b"STOPPING=1", b"STATUS=draining")
        # Longer than any unit would wait by itself; what requests in flight may take, and a little.
        assert 300e6 < int(longer.removeprefix(b"EXTEND_TIMEOUT_USEC=")) < 330e6
        assert served.finish()[0] == 0


def test_the_watchdog_is_fed_again_and_again(tmp_path: Path, serving: list[Served]) -> None:
    """Also by a supervisor that has nothing else to say any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address = listen_at(manager, tmp_path)
        served = Served(tmp_path, environ={"NOTIFY_SOCKET": address})
        serving.append(served)
        while not manager.recv(1000).startswith(b"READY=1"):
            pass
        assert [manager.recv(1000) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        served.process.send_signal(signal.SIGTERM)
        assert served.finish()[0] == 0


def test_the_watchdog_hears_nothing_while_a_killed_child_does_not_die(
    tmp_path: Path, serving: list[Served]
) -> None:
    """A restart of all is left then. Once it is gone all is well again."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        environ = {"NOTIFY_SOCKET": listen_at(manager, tmp_path), "OCTAVO_TEST_KILL_PATIENCE": "1"}
        served = Served(tmp_path, {"worker-0": "undying"}, environ=environ)
        serving.append(served)
        left = served.wait_for("left", 1)["worker-0"]
        try:
            wait_until(lambda: not alive(served.events("started")["worker-0"]))
            assert is_silent(manager, 3.5, within=20)
        finally:
            os.kill(left, signal.SIGKILL)
        manager.settimeout(10)
        while manager.recv(1000) != b"WATCHDOG=1":
            pass
        wait_until(lambda: served.num_starts("worker-0") == 2)
        served.process.send_signal(signal.SIGTERM)
        assert served.finish()[0] == 0


def listen_at(manager: socket.socket, directory: Path) -> str:
    address = str(directory / "notify")
    manager.bind(address)
    manager.settimeout(10)
    return address


def is_silent(manager: socket.socket, seconds: float, within: float) -> bool:
    """Whether nothing is said for `seconds` at last: of signs of life there is one each second."""
    manager.settimeout(seconds)
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            manager.recv(1000)
        except TimeoutError:
            return True
    return False


def next_word(manager: socket.socket) -> bytes:
    """But for signs of life."""
    while (said := manager.recv(1000)) == b"WATCHDOG=1":
        pass
    return said


def test_a_full_socket_of_the_service_manager_stops_nobody(
    tmp_path: Path, serving: list[Served]
) -> None:
    """Nobody reads it; what had to be said is said once there is room."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address = str(tmp_path / "notify")
        manager.bind(address)
        manager.settimeout(10)
        fill(address)
        served = Served(tmp_path, environ={"NOTIFY_SOCKET": address})
        serving.append(served)
        served.ready()
        old = served.events("started")["worker-0"]
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: served.events("started")["worker-0"] != old)
        while (said := next_word(manager)) == b"full":
            pass
        assert b"READY=1" in said.splitlines()
        served.process.send_signal(signal.SIGTERM)
        assert served.finish()[0] == 0


def fill(address: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                channel.sendto(b"full", address)


def test_a_port_in_use_is_exit_75(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        argv = [sys.executable, "-m", "octavo.services.launch", "serve", "--port", str(port)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert done.returncode == 75
    assert done.stderr == (
        f"octavo: error: port {port} on 127.0.0.1 is in use; choose another with --port\n"
    )
