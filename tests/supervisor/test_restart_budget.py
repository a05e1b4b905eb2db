"""How many deaths end the server."""

from __future__ import annotations

import pytest

from octavo.services.supervisor.restart_budget import (
    MAX_FRUITLESS,
    MAX_RESTARTS,
    CrashLoop,
    RestartBudget,
)
from octavo.shared.process import Trial

SUSPECTS = Trial(0, [b"one", b"two"])


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budget(clock: Clock) -> RestartBudget:
    return RestartBudget(clock)


def test_so_many_in_a_minute(budget: RestartBudget, clock: Clock) -> None:
    for _ in range(MAX_RESTARTS):
        budget.spend("worker", 1.0)
    with pytest.raises(CrashLoop, match="5 restarts within 60 s did not help"):
        budget.spend("frontend", 1.0)
    clock.now = 61
    budget.spend("worker", 1.0)


def test_deaths_under_trial_do_not_count_while_they_lead_somewhere(budget: RestartBudget) -> None:
    for _ in range(5 * MAX_FRUITLESS):
        for _ in range(MAX_FRUITLESS):
            budget.note(SUSPECTS)
            budget.spend("worker", 1.0)
        budget.note(Trial(1, []))
    for _ in range(MAX_RESTARTS):
        budget.spend("worker", 1.0)


def test_trials_that_acquit_nobody_end(budget: RestartBudget) -> None:
    """Whatever runs is the death of a worker: it is the worker."""
    for _ in range(MAX_FRUITLESS):
        budget.note(SUSPECTS)
        budget.spend("worker", 1.0)
    budget.note(SUSPECTS)
    with pytest.raises(CrashLoop):
        budget.spend("worker", 1.0)


def test_a_death_before_anybody_runs_again_counts(budget: RestartBudget) -> None:
    """A trial that has ended with its worker does not excuse the next one's death at its start."""
    budget.note(SUSPECTS)
    assert budget.accused == [b"one", b"two"]
    budget.spend("worker", 1.0)
    assert budget.accused == []
    for _ in range(MAX_RESTARTS):
        budget.spend("worker", 1.0)
    with pytest.raises(CrashLoop, match="within 60 s"):
        budget.spend("worker", 1.0)


def test_a_frontend_is_not_on_trial(budget: RestartBudget) -> None:
    budget.note(SUSPECTS)
    budget.spend("frontend", 1.0)
    assert budget.accused


class Life:
    """Deaths one after another, on a clock of their own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.budget = RestartBudget(lambda: self.now)

    def pass_by(self, starting: float, served: float | None, role: str = "worker") -> None:
        """It starts for so long, serves for so long (None: never) and dies."""
        self.now += starting + (served or 0.0)
        self.budget.spend(role, served)


def deaths_until_the_end(starting: float, served: float | None, most: int = 1000) -> int | None:
    life = Life()
    for number in range(1, most + 1):
        try:
            life.pass_by(starting, served)
        except CrashLoop:
            return number
    return None


@pytest.mark.parametrize(
    ("starting", "served", "deaths"),
    [
        (1.0, 0.5, 6),  # more than five within a minute
        (12.5, None, 6),  # none came to serve
        (300.0, None, 6),
        (2.0, 10.5, None),  # every 12.5 s, but it serves between: streams go on
        (60.0, 10.0, 11),  # hardly ever there
        (60.0, 90.0, None),
    ],
)
def test_what_is_borne(starting: float, served: float | None, deaths: int | None) -> None:
    assert deaths_until_the_end(starting, served) == deaths


def test_the_time_of_those_who_were_replaced_counts() -> None:
    """Workers that are replaced each night, and now and then die in the morning."""
    life = Life()
    for _ in range(50):
        life.now += 86_400.0
        life.budget.replaced("worker", 86_390.0)
        life.pass_by(10.0, 3_600.0)
    life.budget.replaced("worker", 1.0)
    for _ in range(9):
        life.pass_by(3_600.0, 10.0)
    with pytest.raises(CrashLoop, match="away"):
        life.pass_by(3_600.0, 10.0)


def test_starts_in_a_row_are_of_one_role() -> None:
    life = Life()
    for _ in range(4):
        life.pass_by(20.0, None)
    life.pass_by(20.0, None, "scheduler")
    life.pass_by(20.0, None)
    life.pass_by(0.0, 100.0)  # this one served
    life.pass_by(20.0, None)
