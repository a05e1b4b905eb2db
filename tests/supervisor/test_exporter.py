"""The exporter under its supervisor: it is always there again, and never a reason to end."""

from __future__ import annotations

import collections
import os
import signal
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from house_supervisor import MODEL, Served, alive, connects, wait_until

from octavo.services.supervisor.exporter_place import INTERVAL, ExporterPlace
from octavo.services.supervisor.group import Event, Group, Plan
from octavo.services.supervisor.recovery import Recovery
from octavo.services.supervisor.restart_budget import CrashLoop
from octavo.shared.config import EngineConfig, ServerConfig

PLAN = Plan(Path("/x"), ServerConfig(engine=EngineConfig()), MODEL, "INFO")


class FakeGroup:
    """Notes who is started."""

    def __init__(self) -> None:
        self.children: list[Any] = []
        self.starts: collections.Counter[str] = collections.Counter()
        self.told: list[bytes] = []

    def start(self, config: Any, sockets: Any = None) -> None:
        name = f"{config.role}-{config.index}"
        child = SimpleNamespace(role=config.role, index=0, name=name, config=config)
        child.doomed, child.ready_at = False, None
        self.children.append(child)
        self.starts[name] += 1

    def tell(self, role: str, line: bytes) -> None:
        self.told.append(line)


class World:
    """A recovery on a clock of the test's own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.group = FakeGroup()
        group = cast(Group, self.group)
        listener: Any = SimpleNamespace(fileno=lambda: 7, close=lambda: None)
        self.place = ExporterPlace(group, PLAN, listener, lambda: self.now)
        self.recovery = Recovery(group, PLAN, {}, self.place, clock=lambda: self.now)

    def die(self) -> None:
        dead = self.group.children.pop()
        self.recovery.handle([Event(dead, None, "was killed")])


def test_it_is_started_again_at_once_or_after_a_while() -> None:
    world = World()
    world.place.start()
    world.now += INTERVAL
    world.die()
    assert len(world.group.children) == 1, "at once: it had served"
    world.now += 1.0
    world.die()
    assert not world.group.children
    world.now += INTERVAL - 1.5
    world.recovery.handle([])
    assert not world.group.children
    world.now += 0.5
    world.recovery.handle([])
    assert world.group.starts["exporter-0"] == 3
    assert [line for line in world.group.told if line.startswith(b"lost exporter-0.")]


def test_no_number_of_its_deaths_is_a_crash_loop() -> None:
    world = World()
    world.place.start()
    for _ in range(100):
        world.now += INTERVAL
        world.die()
    assert world.recovery.restarts["exporter"] == 100
    with pytest.raises(CrashLoop):
        for _ in range(6):
            world.group.start(PLAN.process("frontend", 0))
            world.die()


def test_nobody_is_started_once_the_port_is_given_up() -> None:
    world = World()
    world.place.start()
    world.die()
    world.place.close()
    world.now += 2 * INTERVAL
    world.recovery.handle([])
    assert world.group.starts["exporter-0"] == 1


def queues(port: int) -> bool:
    """Whether a connection is taken, though nobody may answer yet."""
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        return True


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_who_dies_or_hangs_is_replaced(
    tmp_path: Path, serving: list[Served], number: signal.Signals
) -> None:
    """It alone; who connects meanwhile waits, and is not refused."""
    served = Served(tmp_path, exporter=True)
    serving.append(served)
    served.ready()
    old = served.events("started")
    os.kill(old["exporter-0"], number)
    wait_until(lambda: not alive(old["exporter-0"]))
    assert queues(served.metrics_port)
    wait_until(lambda: served.events("started")["exporter-0"] != old["exporter-0"], 20)
    assert connects(served.metrics_port) == "exporter-0"
    new = served.events("started")
    assert {name for name, pid in new.items() if pid != old[name]} == {"exporter-0"}
    served.process.send_signal(signal.SIGTERM)
    code, errors = served.finish()
    assert code == 0 and "exporter-0 was killed by SIGKILL; starting it again" in errors
    assert ("no progress" in errors) == (number == signal.SIGSTOP)


@pytest.mark.parametrize("behaviour", ["die", "break", "refuse"])
def test_a_server_starts_without_one(tmp_path: Path, serving: list[Served], behaviour: str) -> None:
    """That says why it fails, too: nobody else would."""
    served = Served(tmp_path, {"exporter-0": behaviour}, exporter=True)
    serving.append(served)
    assert served.ready().startswith("Ready in ")
    assert connects(served.port) == "frontend-0"
    served.process.send_signal(signal.SIGTERM)
    assert served.finish()[0] == 0


def test_it_is_told_when_nobody_answers_clients(tmp_path: Path, serving: list[Served]) -> None:
    """Who asks it asks for the server; a frontend that is asked is there."""
    served = Served(tmp_path, exporter=True)
    serving.append(served)
    served.ready()
    os.kill(served.events("started")["frontend-0"], signal.SIGKILL)
    wait_until(lambda: "exporter-0" in served.events('state-{"state":"degraded"}'))
    wait_until(lambda: served.said().count('exporter-0 state-{"state":"ready"}') == 2)
    assert served.events('state-{"state":"degraded"}').keys() == {"exporter-0"}


def test_it_is_told_of_the_drain_and_replaced_in_it(tmp_path: Path, serving: list[Served]) -> None:
    served = Served(tmp_path, {"frontend-0": "stubborn"}, shutdown_timeout=60, exporter=True)
    serving.append(served)
    served.ready()
    served.process.send_signal(signal.SIGTERM)
    draining = 'state-{"state":"draining"}'
    first = served.wait_for(draining, 1)["exporter-0"]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: served.events(draining)["exporter-0"] != first, 20)
    assert connects(served.metrics_port) == "exporter-0"
    assert served.events(draining).keys() == {"exporter-0"}
    served.process.send_signal(signal.SIGTERM)
    assert served.finish()[0] == 0
