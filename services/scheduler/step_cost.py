"""StepCost: how long a step of so many rows and prompt tokens would take, by the last steps.

Seconds are about `base + row * rows + token * prompts`. Base and row are a line through what steps
without prompts have taken, averaged apart for few rows and for many: a mean over all steps would
forget what a step of few rows takes while none comes. What a token adds is told by the steps with
prompts.
"""

from __future__ import annotations

import math

WEIGHT = 0.1
"""Of the newest step in an average."""
HUNDRED = 100.0
RIDGE = 1e-4
"""Of steps of one size it decides what is base: about half, for a hundred rows."""


class StepCost:
    """`token`: seconds; zero, as all else, before the first step."""

    def __init__(self) -> None:
        self._averages: dict[int, tuple[float, float]] = {}
        """(rows, seconds) of steps of 1, 2 to 3, 4 to 7, ... rows."""
        self._seen: dict[int, int] = {}
        self._count = 0
        self._line: tuple[float, float] | None = (0.0, 0.0)
        self.token = 0.0

    def observe(self, rows: int, prompts: int, seconds: float) -> None:
        """A step of `rows`, with so many tokens of prompts in them, has taken so long."""
        self._count += 1
        if prompts:
            added = max(seconds - self.seconds(rows, 0), 0.0) / prompts
            self.token += WEIGHT * (added - self.token) if self.token else added
        elif seconds > 0.0:
            size = rows.bit_length()
            self._seen[size] = self._count
            usual_rows, usual = self._averages.get(size, (rows, seconds))
            self._averages[size] = (
                usual_rows + WEIGHT * (rows - usual_rows),
                usual + WEIGHT * (seconds - usual),
            )
            self._line = None

    def age(self, rows: int) -> float:
        """How many steps ago there was one of about so many rows, without prompts."""
        return self._count - self._seen.get(rows.bit_length(), -math.inf)

    @property
    def base(self) -> float:
        return self._fitted()[0]

    @property
    def row(self) -> float:
        return self._fitted()[1]

    def seconds(self, rows: int, prompts: int) -> float:
        """By the steps of that size, where there were any, else by the line."""
        base, row = self._fitted()
        usual_rows, usual = self._averages.get(rows.bit_length(), (0.0, base))
        return usual + row * (rows - usual_rows) + self.token * prompts

    def _fitted(self) -> tuple[float, float]:
        if self._line is None:
            self._line = fit([(x / HUNDRED, y) for x, y in self._averages.values()])
        base, row = self._line
        return base, row / HUNDRED


def fit(points: list[tuple[float, float]]) -> tuple[float, float]:
    """The line (at 0, slope), neither negative, whose errors are least, each as a part of y."""
    weights = [1.0 / y**2 for _, y in points]
    n = sum(weights)
    x, y, xx, xy = (
        sum(weight * value for weight, value in zip(weights, column, strict=True))
        for column in zip(*((x, y, x * x, x * y) for x, y in points), strict=True)
    )
    n, xx = n * (1 + RIDGE), xx + n * RIDGE
    slope = max((n * xy - x * y) / (n * xx - x * x), 0.0)
    return max((y - x * slope) / n, 0.0), slope
