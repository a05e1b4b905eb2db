"""Who is killed for showing no progress, on a clock of the test's own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from house_supervisor import MODEL

from octavo.services.supervisor.children import START_FACTOR, ChildProcess
from octavo.services.supervisor.hangs import KILL_PATIENCE, Hangs
from octavo.shared.config import EngineConfig, ProcessConfig, ServerConfig
from octavo.shared.process import Status

SERVER = ServerConfig(engine=EngineConfig(), hang_timeout=10.0, start_timeout=100.0)


class World:
    """One child whose pipes the test holds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.signals: list[int] = []
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        control, status = os.pipe(), os.pipe()
        config = ProcessConfig(role="worker", index=0, directory="/x", server=SERVER, model=MODEL)
        self.child = ChildProcess(config, self, control[1], status[0])  # type: ignore[arg-type]
        self._says = status[1]
        self._fds = [*control, *status]
        self.children = [self.child]
        self._hangs = Hangs(self, SERVER, lambda: self.now)  # type: ignore[arg-type]

    def send_signal(self, number: int) -> None:
        self.signals.append(number)

    def say(self, state: str, **facts: Any) -> None:
        os.write(self._says, msgspec.json.encode(Status(state=state, **facts)) + b"\n")
        for status in self.child.read_status() or []:
            if status.state == "ready":
                self.child.is_ready(status.info)

    def pass_by(self, seconds: float, says: str = "") -> bool:
        """Whether the watchdog is to be withheld at the end."""
        withheld = False
        for _ in range(int(seconds)):
            self.now += 1.0
            if says:
                self.say(says)
            withheld = self._hangs.kill()
        return withheld

    def freeze(self, seconds: float) -> None:
        self.now += seconds
        self._hangs.kill()

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(monkeypatch)
    yield made
    made.close()


def test_ready_and_silent(world: World) -> None:
    world.say("ready")
    world.pass_by(60, "alive")
    world.pass_by(10)
    assert not world.signals
    world.pass_by(1)
    assert world.signals == [signal.SIGKILL]


def test_starting_without_a_pulse(world: World) -> None:
    world.pass_by(10 * START_FACTOR)
    assert not world.signals
    world.pass_by(1)
    assert world.signals


@pytest.mark.parametrize("says", ["alive", "loading"])
def test_starting_with_a_pulse_and_no_progress(world: World, says: str) -> None:
    world.pass_by(300, says)
    world.pass_by(100, "pulse")
    assert not world.signals
    world.pass_by(1, "pulse")
    assert world.signals


def test_a_doomed_one_that_hangs_is_killed_too(world: World) -> None:
    world.say("ready")
    world.child.doomed = True
    world.pass_by(60, "alive")
    world.pass_by(11)
    assert world.signals


def test_the_watchdog_is_fed_unless_one_does_not_even_die(world: World) -> None:
    world.say("ready")
    assert not world.pass_by(11)
    assert world.signals == [signal.SIGKILL]
    assert not world.pass_by(KILL_PATIENCE)
    assert world.pass_by(1)
    assert world.signals == [signal.SIGKILL], "once"
    world.children.clear()
    assert not world.pass_by(1)


def test_a_freeze_of_everything_is_nobodys_silence(world: World) -> None:
    world.say("ready")
    world.pass_by(5)
    world.freeze(600)
    world.pass_by(3)
    assert not world.signals
    world.pass_by(6)
    assert world.signals
