"""An admin socket that is in use stays with its server; what a killed server has left does not."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from octavo.services.supervisor.admin import AdminSocket, ask


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


def test_a_dead_servers_socket_goes(tmp_path: Path) -> None:
    path = tmp_path / "admin"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    found = AdminSocket(path, {})
    assert found.fileno() >= 0
    found.close()
