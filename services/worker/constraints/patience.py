"""Patience with grammars whose masks take long: who holds up the others time and again is ended.

The grammar helper makes up a short output for each grammar (`services/grammar/rehearsal`); what
costs much only further on shows here. Where a step has waited for its masks, one of the next is
made and timed by itself: the same one as long as it is long, else another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from octavo.services.worker.constraints.constraint import Constraint
from octavo.shared.grammar.matcher import LONG_MASK, MOST_LONG_MASKS, MaskBatch, Masks, Matcher


class Patience:
    """`ends`: whether it ever runs out."""

    def __init__(self, ends: bool) -> None:
        self.ends = ends
        self._looks = False
        self._turn = 0

    def fill(
        self, batch: MaskBatch, constraints: Sequence[Constraint], waits: Callable[[], bool]
    ) -> None:
        """The rows of the batch in which a grammar holds. `waits`: whether others do, for the
        masks and nothing else."""
        pairs = _matchers(constraints)
        began = time.perf_counter()
        if self._looks and pairs:
            row, matcher = pairs.pop(self._turn % len(pairs))
            self._look_at(constraints[row], matcher, batch.masks[row])
        batch.fill(pairs)
        self._looks = self.ends and time.perf_counter() - began > LONG_MASK and waits()

    def _look_at(self, constraint: Constraint, matcher: Matcher, mask: Masks) -> None:
        began = time.thread_time()
        matcher.fill_mask(mask)
        if time.thread_time() - began <= LONG_MASK:
            constraint.num_long = 0
            self._turn += 1
            return
        constraint.num_long += 1
        if constraint.num_long == MOST_LONG_MASKS:
            constraint.give_up("its masks take too long")


def _matchers(constraints: Sequence[Constraint]) -> list[tuple[int, Matcher]]:
    pairs = ((row, constraint.matcher) for row, constraint in enumerate(constraints))
    return [(row, matcher) for row, matcher in pairs if matcher is not None]
