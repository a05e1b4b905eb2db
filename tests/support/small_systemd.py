"""As much of `systemctl` as docs/deploy.md asks for, below a folder instead of /: units are read,
started with their environment, and waited for as Type=notify says."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

PLACES = re.compile(r"(?<![\w.$/])/(etc|opt|run|usr/lib|var)/")
PATIENCE = 120.0


def below(root: Path, text: str) -> str:
    """Absolute paths of the places that an installation writes to, moved below `root`."""
    return PLACES.sub(rf"{root}/\1/", text)


class Systemd:
    """`foreign`: services that are not ours: command, and file of environment."""

    def __init__(self, root: Path, foreign: dict[str, tuple[list[str], str]]) -> None:
        self._root = root
        self._foreign = foreign
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def do(self, verb: str, *words: str) -> None:
        units = [word for word in words if not word.startswith("-")]
        for unit in units:
            if verb in ("disable", "stop", "restart"):
                self.stop(unit)
            if verb in ("enable", "start", "restart"):
                self.start(unit)

    def start(self, unit: str) -> None:
        if unit in self._foreign:
            command, file = self._foreign[unit]
            environ = {**os.environ, **self._variables(self._root / file.lstrip("/"))}
            self.running[unit] = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
            return
        settings = self._settings(unit)
        environ = dict(os.environ)
        for name, value in settings:
            if name == "Environment":
                environ |= dict(word.split("=", 1) for word in shlex.split(value))
            elif name == "EnvironmentFile":
                environ |= self._variables(Path(value.removeprefix("-")))
            elif name == "RuntimeDirectory":
                (self._root / "run" / value).mkdir(parents=True, exist_ok=True)
        (command,) = [shlex.split(value) for name, value in settings if name == "ExecStart"]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(f"\0octavo-test-{os.getpid()}-{unit}")
            environ["NOTIFY_SOCKET"] = f"@octavo-test-{os.getpid()}-{unit}"
            manager.settimeout(PATIENCE)
            self.running[unit] = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
            while not manager.recv(4096).startswith(b"READY=1"):
                pass

    def stop(self, unit: str) -> None:
        if process := self.running.pop(unit, None):
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
            assert code == 0 or unit in self._foreign, (unit, code)

    def _settings(self, unit: str) -> list[tuple[str, str]]:
        name, at, instance = unit.partition("@")
        text = (self._root / "etc/systemd/system" / f"{name}{at}.service").read_text()
        lines = below(self._root, text.replace("%i", instance)).splitlines()
        return [(n, v) for n, sep, v in (line.partition("=") for line in lines) if sep]

    def _variables(self, file: Path) -> dict[str, str]:
        lines = file.read_text().splitlines() if file.exists() else []
        return dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")


def program(path: Path) -> None:
    """The command `octavo` of an environment, by the one that runs here."""
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m octavo.services.launch "$@"\n')
    path.chmod(0o755)
