"""Patience with grammars whose masks take long: who holds up the batch time and again ends.

The grammar helper makes up a short output for each grammar (`services/grammar/rehearsal`); what
costs much only further on shows here. While the masks of a step together take long, one of them, in
turn, is made and timed by itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from octavo.services.worker.constraints.constraint import Constraint
from octavo.shared.grammar.matcher import MaskBatch, Masks, Matcher

LONG = 5e-3
"""Seconds: of all masks on the clock, of one in processor time."""
MOST = 8
"""Long masks of one output."""


class Patience:
    """`ends`: whether it ever runs out. Of several ranks rank 0's decides, whose results count."""

    def __init__(self, ends: bool) -> None:
        self._ends = ends
        self._tried = False
        self._turn = 0

    def fill(self, batch: MaskBatch, constraints: Sequence[Constraint]) -> None:
        """The rows of the batch in which a grammar holds."""
        pairs = _matchers(constraints)
        began = time.perf_counter()
        if self._tried and pairs:
            self._turn = (self._turn + 1) % len(pairs)
            row, matcher = pairs.pop(self._turn)
            self._time(constraints[row], matcher, batch.masks[row])
        batch.fill(pairs)
        self._tried = self._ends and time.perf_counter() - began > LONG

    def _time(self, constraint: Constraint, matcher: Matcher, mask: Masks) -> None:
        began = time.thread_time()
        matcher.fill_mask(mask)
        if time.thread_time() - began > LONG:
            constraint.num_long += 1
            if constraint.num_long == MOST:
                constraint.give_up("its masks take too long")


def _matchers(constraints: Sequence[Constraint]) -> list[tuple[int, Matcher]]:
    pairs = ((row, constraint.matcher) for row, constraint in enumerate(constraints))
    return [(row, matcher) for row, matcher in pairs if matcher is not None]
