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
        budget.spend(engine=True)
    with pytest.raises(CrashLoop, match="5 restarts within 60 s did not help"):
        budget.spend(engine=False)
    clock.now = 61
    budget.spend(engine=True)


def test_deaths_under_trial_do_not_count_while_they_lead_somewhere(budget: RestartBudget) -> None:
    for _ in range(5 * MAX_FRUITLESS):
        for _ in range(MAX_FRUITLESS):
            budget.note(SUSPECTS)
            budget.spend(engine=True)
        budget.note(Trial(1, []))
    for _ in range(MAX_RESTARTS):
        budget.spend(engine=True)


def test_trials_that_acquit_nobody_end(budget: RestartBudget) -> None:
    """Whatever runs is the death of a worker: it is the worker."""
    for _ in range(MAX_FRUITLESS):
        budget.note(SUSPECTS)
        budget.spend(engine=True)
    budget.note(SUSPECTS)
    with pytest.raises(CrashLoop):
        budget.spend(engine=True)


def test_a_death_before_anybody_runs_again_counts(budget: RestartBudget) -> None:
    """A trial that has ended with its worker does not excuse the next one's death at its start."""
    budget.note(SUSPECTS)
    assert budget.accused == [b"one", b"two"]
    budget.spend(engine=True)
    assert budget.accused == []
    for _ in range(MAX_RESTARTS):
        budget.spend(engine=True)
    with pytest.raises(CrashLoop, match="within 60 s"):
        budget.spend(engine=True)


def test_a_frontend_is_not_on_trial(budget: RestartBudget) -> None:
    budget.note(SUSPECTS)
    budget.spend(engine=False)
    assert budget.accused
