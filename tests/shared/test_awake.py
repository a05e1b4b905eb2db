"""A clock of the time in which one runs oneself."""

from __future__ import annotations

from octavo.shared.awake import AwakeClock


def test_a_time_in_which_nobody_looked_counts_little() -> None:
    times = iter((100.0, 100.5, 101.0, 101.75, 900.0, 900.5))
    clock = AwakeClock(longest=1.0, clock=lambda: next(times))
    assert [clock() for _ in range(5)] == [0.5, 1.0, 1.75, 2.75, 3.25]
