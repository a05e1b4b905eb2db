from __future__ import annotations

import pytest

from bench.prefix_cache import costs


def test_costs_are_percent_of_the_rate_without() -> None:
    assert costs([(99.0, 100.0), (102.0, 100.0)]) == [pytest.approx(1.0), pytest.approx(-2.0)]
