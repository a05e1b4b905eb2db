"""An admin socket that is in use stays with its server; what a killed server has left does not."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest

from octavo.services.supervisor.admin import AdminSocket, ask, is_believed
from octavo.shared.errors import ConfigError


def test_a_live_servers_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "admin"
    first = AdminSocket(path, {"status": lambda: "first"})
    second = AdminSocket(path, {"status": lambda: "second"})
    assert second.fileno() < 0
    second.close()
    serving = threading.Timer(0.2, first.serve)
    serving.start()
    assert ask(path, "status") == "first"
    serving.join()
    first.close()
    assert not path.exists()


@pytest.mark.parametrize(
    ("owner", "mode", "caller", "believed"),
    [
        (1000, 0o41777, 1000, True),
        (1000, 0o40755, 1001, False),
        (1000, 0o40755, 0, True),
        (1000, 0o41777, 0, False),
        (0, 0o41777, 0, True),
        (0, 0o40755, 1000, False),
    ],
)
def test_whose_socket_is_believed(owner: int, mode: int, caller: int, believed: bool) -> None:
    assert is_believed(owner, mode, caller) == believed


@pytest.mark.skipif(os.getuid() != 0, reason="only root has others' files")
def test_root_asks_a_service_of_another_user(tmp_path: Path) -> None:
    path = tmp_path / "admin"
    server = AdminSocket(path, {"status": lambda: "well"})
    os.chown(path, 65534, 65534)
    serving = threading.Timer(0.2, server.serve)
    serving.start()
    assert ask(path, "status") == "well"
    serving.join()
    tmp_path.chmod(0o1777)
    with pytest.raises(ConfigError, match="belongs to somebody else"):
        ask(path, "status")
    server.close()


def test_a_dead_servers_socket_goes(tmp_path: Path) -> None:
    path = tmp_path / "admin"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    found = AdminSocket(path, {})
    assert found.fileno() >= 0
    found.close()


def test_a_client_that_drips_holds_nobody_up(tmp_path: Path) -> None:
    admin = AdminSocket(tmp_path / "admin", {})
    over = threading.Event()

    def drip(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.02):
                client.send(b" ")

    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "admin"))
        dripping = threading.Thread(target=drip, args=(client,))
        dripping.start()
        serving = threading.Thread(target=admin.serve, daemon=True)
        serving.start()
        serving.join(10)
        held = serving.is_alive()
        over.set()
        dripping.join()
    admin.close()
    assert not held
