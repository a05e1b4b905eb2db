"""ItlGuard: as many prompt tokens beside decodes as keep the time between tokens.

The bound follows the steps as they come back: down by a tenth or more after one that took too
long, up by a two-hundredth after one that did not. So it settles where about one in twenty does.
"""

from __future__ import annotations

FEWEST = 16
"""Prompt tokens that a step may always have: prompts must get on."""
DOWN, STEEPEST = 0.9, 0.5
UP = 1.005


class ItlGuard:
    """`target`: seconds a step may take where rows decode; None: no matter."""

    def __init__(self, target: float | None) -> None:
        self._target = target
        self._bound: float | None = None

    def observe(self, seconds: float, prompts: int) -> None:
        """A step with decodes, and so many prompt tokens, has taken so long."""
        if self._target is None or not prompts:
            return
        if seconds > self._target:
            factor = min(DOWN, max(STEEPEST, self._target / seconds))
            self._bound = max((self._bound or prompts) * factor, FEWEST)
        elif self._bound is not None and prompts >= int(self._bound):
            self._bound *= UP

    def bound(self, share: int) -> int:
        """At most `share` prompt tokens for the next step."""
        return share if self._bound is None else min(int(self._bound), share)
