"""Whose masks are timed, and who is ended for them, on clocks of the test's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from octavo.services.worker.constraints.patience import Patience
from octavo.shared.grammar.matcher import LONG_MASK, MOST_LONG_MASKS


class Output:
    """In a Constraint's place, and in its matcher's."""

    def __init__(self, world: World, seconds: float) -> None:
        self.seconds = seconds
        self.num_long = 0
        self.ended = False
        self.matcher = self
        self._world = world

    def fill_mask(self, mask: Any) -> None:
        self._world.now += self.seconds

    def give_up(self, why: str) -> None:
        self.ended = True
        self._world.outputs.remove(self)


class World:
    """In a MaskBatch's place: so many outputs, one of them slow."""

    def __init__(self, count: int, slow: int, seconds: float, *, ends: bool = True) -> None:
        self.now = 0.0
        self.outputs = [Output(self, 1e-5) for _ in range(count)]
        self.slow = self.outputs[slow]
        self.slow.seconds = seconds
        self.masks = np.zeros((count, 1), np.int32)
        self._patience = Patience(ends)

    def fill(self, pairs: list[tuple[int, Output]]) -> None:
        for _, output in pairs:
            output.fill_mask(None)

    def steps(self, count: int, waits: bool = True) -> None:
        for _ in range(count):
            self._patience.fill(self, self.outputs[:], lambda: waits)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> dict[str, World]:
    here: dict[str, World] = {}
    for name in ("perf_counter", "thread_time"):
        monkeypatch.setattr(f"time.{name}", lambda: here["world"].now if here else 0.0)
    return here


def world_of(clocks: dict[str, World], *args: Any, **named: Any) -> World:
    world = clocks["world"] = World(*args, **named)
    return world


@pytest.mark.parametrize("slow", [0, 13, 63])
def test_one_among_many_is_found_within_a_round(clocks: dict[str, World], slow: int) -> None:
    world = world_of(clocks, 64, slow, 4 * LONG_MASK)
    world.steps(64 + 1 + MOST_LONG_MASKS)
    assert world.slow.ended and len(world.outputs) == 63


def test_nobody_is_ended_who_holds_up_nobody(clocks: dict[str, World]) -> None:
    world = world_of(clocks, 4, 2, 4 * LONG_MASK)
    world.steps(100, waits=False)
    others = world_of(clocks, 4, 2, 4 * LONG_MASK, ends=False)
    others.steps(100)
    assert len(world.outputs) == len(others.outputs) == 4


def test_now_and_then_a_long_mask_is_forgiven(clocks: dict[str, World]) -> None:
    world = world_of(clocks, 2, 1, 4 * LONG_MASK)
    for _ in range(20):
        world.slow.seconds = 4 * LONG_MASK
        world.steps(MOST_LONG_MASKS - 1)
        world.slow.seconds = 1e-5
        world.steps(4)
    assert len(world.outputs) == 2
