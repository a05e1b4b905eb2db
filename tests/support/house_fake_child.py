"""A child that does nothing but live as it is told: run by path, in the place of a service.

OCTAVO_TEST_FAKE is a JSON object of child name -> behaviour; OCTAVO_TEST_LOG a file to which each
child appends `<name> <event> <pid>` lines.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time

from octavo.shared.errors import ConfigError
from octavo.shared.process import Child, run_child


def main(child: Child) -> None:
    name = f"{child.config.role}-{child.config.index}"
    behaviour = json.loads(os.environ.get("OCTAVO_TEST_FAKE", "{}")).get(name, "")
    stopped = threading.Event()

    def stop(*_: object) -> None:
        note(name, "sigterm")
        if behaviour != "stubborn":
            stopped.set()

    opened = threading.Event()

    def hear(line: bytes) -> None:
        note(name, line.decode().replace(" ", "-"))
        if b'"ready"' in line or b'"degraded"' in line:
            opened.set()

    signal.signal(signal.SIGTERM, stop)
    is_later = has_noted(name, "started")
    note(name, "started")
    child.hear(hear)
    for role, count in child.config.restarts.items():
        note(name, f"knows-{role}-{count}")
    child.progress("weights", 1, 4, "B")
    if behaviour == "refuse":
        raise ConfigError("the model needs 16.1 GiB, the device has 8.0 GiB")
    if behaviour == "break":
        raise RuntimeError("a bug of ours")
    if behaviour == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if "--listen-fd" in sys.argv:
        threading.Thread(target=serve, args=(name,), daemon=True).start()
        while not (opened.wait(0.05) or stopped.is_set()):
            child.alive()
    if behaviour != "hang" and not (behaviour == "hang-later" and is_later):
        facts = {"num_blocks": 100, "kv_tokens": 1600, "block_size": 16, "max_concurrency": 12.5}
        child.ready(**facts, compiled=["norm", "attention", "norm"], from_cache=2, cache="/cache")
    if behaviour == "undying" and not is_later:
        leave_somebody(name)
    if behaviour == "die-when-ready":
        os.kill(os.getpid(), signal.SIGKILL)
    while not stopped.is_set():
        stopped.wait(0.1)
        child.alive()
    note(name, "ended")


def leave_somebody(name: str) -> None:
    """Hang, with a child that keeps our pipes open when we are killed: as if we would not die."""
    if os.fork() == 0:
        note(name, "left")
    time.sleep(60)  # nobody else ends this child of ours if the test fails
    os._exit(0)


def serve(name: str) -> None:
    """Answer every connection with our name."""
    fd = int(sys.argv[sys.argv.index("--listen-fd") + 1])
    listener = socket.socket(fileno=fd)
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            connection.sendall(name.encode())
            connection.close()


def has_noted(name: str, event: str) -> bool:
    path = os.environ.get("OCTAVO_TEST_LOG", "")
    if not os.path.exists(path):
        return False
    with open(path, encoding="utf-8") as file:
        return f"{name} {event} " in file.read()


def note(name: str, event: str) -> None:
    path = os.environ.get("OCTAVO_TEST_LOG")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{name} {event} {os.getpid()} {time.monotonic()}\n")


if __name__ == "__main__":
    run_child(main)
