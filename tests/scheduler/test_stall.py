"""When a step takes longer than it can."""

from __future__ import annotations

import numpy as np

from octavo.services.scheduler.stall import FACTOR, FLOOR, Durations, Stall
from octavo.services.scheduler.step import Flight

HANG = 30.0


def flight(prompts: int, decodes: int = 0, step: int = 0) -> Flight:
    return Flight(step, np.arange(1), prompts, decodes)


def patience(durations: Durations, running: Flight) -> float:
    stall = Stall(HANG, lambda: 0.0)
    stall.look(running, durations)
    assert stall.left is not None
    return stall.left


def test_as_long_as_steps_of_its_size_took() -> None:
    durations = Durations()
    durations.observe(flight(600), 1.0)
    durations.observe(flight(0, 8), 0.01)
    assert patience(durations, flight(1000)) == FACTOR
    assert patience(durations, flight(0, 9)) == FLOOR
    assert patience(durations, flight(2040)) == 2 * FACTOR, "larger than any before"
    assert patience(durations, flight(1)) == FACTOR, "smaller than any before"
    assert patience(durations, flight(100_000)) == HANG / 2, "at most"


def test_the_longest_is_forgotten_in_time() -> None:
    durations = Durations()
    durations.observe(flight(600), 2.0)
    for _ in range(200):
        durations.observe(flight(600), 0.5)
    assert patience(durations, flight(600)) == FACTOR * 0.5


def test_before_any_step_has_ended() -> None:
    assert patience(Durations(), flight(1)) == HANG / 2


def test_each_step_has_its_own_time() -> None:
    durations, now = Durations(), 0.0
    durations.observe(flight(1), 0.01)
    stall = Stall(HANG, lambda: now)
    for step in range(40):
        stall.look(flight(1, step=step // 2), durations)
        assert not stall.stalled
        now += 0.5
    stall.look(None, durations)
    assert not stall.stalled and stall.left is None
