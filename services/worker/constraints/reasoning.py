"""Reasoning: the part of an output before its end marker, which a budget may cut short."""

from __future__ import annotations

import collections
from collections.abc import Sequence


class Reasoning:
    """`end_ids`: how the end marker is written; none: there is no reasoning to wait for.
    `begin_ids`: where they are given, there is some only if the first id is the first of them.

    After `budget` ids without the marker its ids are forced, one after the other.
    """

    def __init__(
        self, begin_ids: Sequence[int], end_ids: Sequence[int], budget: int | None
    ) -> None:
        self._end_ids = list(end_ids)
        self.may_begin = begin_ids[0] if begin_ids and end_ids else None
        """The id that would begin it, while that is open."""
        self._budget = budget
        self._tail: collections.deque[int] = collections.deque(maxlen=len(self._end_ids))
        self._num_said = 0
        self._num_forced = 0
        self.over = not self._end_ids

    def accept(self, token_id: int) -> None:
        if self.over:
            return
        if self.may_begin is not None:
            self.over, self.may_begin = token_id != self.may_begin, None
            return
        if self.forced is not None:
            self._num_forced += 1
        self._num_said += 1
        self._tail.append(token_id)
        self.over = list(self._tail) == self._end_ids

    @property
    def running(self) -> bool:
        """What is said is reasoning."""
        return not self.over and self.may_begin is None

    @property
    def forced(self) -> int | None:
        """The id that must come next."""
        if not self.running or self._budget is None or self._num_said < self._budget:
            return None
        return self._end_ids[self._num_forced % len(self._end_ids)]
