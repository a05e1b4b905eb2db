"""What those who answer clients are told, and when, on a clock of the test's own."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.services.supervisor.announcer import Announcer


class Child:
    role = "frontend"

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def tell(self, line: bytes) -> None:
        self.heard.append(line)


class World:
    """In a group's place, and in its progress's."""

    state, line = "loading", "34 %"

    def __init__(self) -> None:
        self.now = 0.0
        self.children = [Child()]
        self.engine_ready = False
        self.announcer = Announcer(self, self, None, lambda: self.now)  # type: ignore[arg-type]

    def of(self, role: str) -> list[Any]:
        return [child for child in self.children if child.role == role]

    def pass_by(self, seconds: float) -> None:
        for _ in range(int(10 * seconds)):
            self.announcer.tell_children()
            self.now += 0.1


@pytest.fixture
def world() -> World:
    return World()


def test_the_same_again_is_a_sign_of_life(world: World) -> None:
    world.pass_by(10)
    [child] = world.children
    assert 9 <= len(child.heard) <= 11 and len(set(child.heard)) == 1
    assert b"loading" in child.heard[0]


def test_another_state_and_another_child_at_once(world: World) -> None:
    world.pass_by(0.5)
    first, second = world.children[0], Child()
    world.engine_ready = True
    world.children.append(second)
    world.announcer.tell_children()
    assert [len(first.heard), len(second.heard)] == [2, 1]
    assert b"ready" in first.heard[1] and b"ready" in second.heard[0]
