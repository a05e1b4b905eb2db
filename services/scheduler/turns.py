"""Turns: steps that tenants over their share sit out, so that the others' tokens come in time.

A step lasts as long as its tokens do, so 200 rows of one tenant slow the two of another down. Where
tenants differ, those with more rows than their share are in as many steps only as make a step, on
average, last `slowdown` times as long as one without them. Both times are learnt from the steps as
they come back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from octavo.services.scheduler.request import Request
from octavo.services.scheduler.slots import Mask, Slots

WEIGHT = 0.1
"""Of the newest step in the averages."""
LOOK_AGAIN = 256
"""After so many steps together one without them is due: things may have changed."""
PATIENCE = 4
"""Steps in a row that they sit out for the prompts of others."""


@dataclass(frozen=True)
class Turn:
    """Who sits a step out: rows of the tenants `held`, of this priority or a worse (larger) one.

    `together`: whether they are in it, or not, in a step that tells what their part costs.
    """

    held: frozenset[int] = frozenset()
    priority: int = 0
    together: bool | None = None

    def holds(self, request: Request) -> bool:
        return request.tenant in self.held and request.priority >= self.priority

    def rows(self, slots: Slots) -> Mask:
        """bool[slots]"""
        rows: Mask = np.isin(slots.tenant, list(self.held)) & (slots.priority >= self.priority)
        return rows


EVERYBODY = Turn()


class Turns:
    """`slowdown`: at least 1; 0: nobody sits out."""

    def __init__(self, slowdown: float) -> None:
        self._active = slowdown > 0
        self._gain = slowdown - 1
        self._without: float | None = None
        self._together: float | None = None
        """Seconds of a step."""
        self._credit = 0.0
        """Seconds by which steps together may make the others wait; never saved up."""
        self._in_a_row = 0
        self._waited = 0

    def next(self, slots: Slots, over: frozenset[int], coming: Iterable[Request]) -> Turn:
        """For the next step; `over`: tenants over their share; `coming`: who has a prompt."""
        if not self._active:
            return EVERYBODY
        busy, theirs = slots.wanted() > 0, np.isin(slots.tenant, list(over))
        urgent = [one.priority for one in coming if one.tenant not in over]
        others = [*slots.priority[busy & ~theirs].tolist(), *urgent]
        if not others or not (busy & theirs).any():
            return EVERYBODY
        self._waited = (self._waited + 1) % (PATIENCE + 1) if urgent else 0
        if urgent:
            return Turn(over, min(others)) if self._waited else EVERYBODY
        if self._sit_out():
            return Turn(over, min(others), together=False)
        return Turn(together=True)

    def _sit_out(self) -> bool:
        """Whether those over their share sit the next step out, where nobody else has a prompt."""
        if self._credit < 0 or self._without is None or self._in_a_row >= LOOK_AGAIN:
            self._in_a_row = 0
            self._credit = min(self._credit + self._gain * (self._without or 0.0), 0.0)
            return True
        self._in_a_row += 1
        if self._together is not None:
            extra = max(self._together - self._without, 0.0)
            self._credit = min(self._credit - extra + self._gain * self._without, 0.0)
        return False

    def observe(self, seconds: float, together: bool) -> None:
        """A step of which those over their share were a part, or not, has taken so long."""
        if together:
            self._together = _mixed(self._together, seconds)
        else:
            self._without = _mixed(self._without, seconds)


def _mixed(average: float | None, newest: float) -> float:
    return newest if average is None else (1 - WEIGHT) * average + WEIGHT * newest
