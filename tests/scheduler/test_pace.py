"""When the next plan goes out: late enough for whoever comes while a step runs."""

from __future__ import annotations

import numpy as np
import pytest

from octavo.services.scheduler.pace import LEAD, Pace
from octavo.services.scheduler.step import Flight


def flight(rows: int, prompts: int = 0) -> Flight:
    return Flight(1, np.arange(rows), prompts, rows)


def test_nothing_is_held_before_a_step_was_seen() -> None:
    assert Pace().hold(flight(200)) < 0


def test_a_plan_waits_for_most_of_the_running_step() -> None:
    pace = Pace()
    pace.observe(flight(200), 0.013)
    assert pace.hold(flight(180)) == pytest.approx(0.013 - LEAD)
    assert pace.hold(flight(180, prompts=512)) == pytest.approx(0.013 - LEAD)
    assert pace.hold(flight(2)) < 0  # nobody has seen such a step


def test_it_is_early_rather_than_late() -> None:
    pace = Pace()
    for seconds in (0.013, 0.010, 0.050):
        pace.observe(flight(200), seconds)
    assert pace.hold(flight(200)) == pytest.approx(0.012 - LEAD)


def test_steps_with_prompts_say_nothing() -> None:
    pace = Pace()
    pace.observe(flight(200, prompts=4000), 0.100)
    assert pace.hold(flight(200)) < 0
