"""A step being planned (Draft) and a step on its way through the workers (Flight)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from octavo.services.scheduler.request import Request
from octavo.services.scheduler.slots import Longs, Mask
from octavo.shared.messages import NewRow, StepPlan, pack


class Draft:
    """`num_tokens` int64[slots]: what each slot gets; `budget`: tokens still to give away."""

    def __init__(self, wanted: Longs, budget: int) -> None:
        self.num_tokens = wanted
        self.budget = budget - int(wanted.sum())
        self.new_rows: list[NewRow] = []
        self.keys: set[bytes] = set()
        """Prefix-cache keys of the blocks that this step fills."""
        self._appends: dict[int, tuple[int, int]] = {}

    def trim(self, running: dict[int, Request]) -> None:
        """Bring a step that is over budget back to it: decodes first, each kind in order."""
        if self.budget >= 0:
            return
        budget = self.budget + int(self.num_tokens.sum())
        decoding, filling = (
            np.flatnonzero(self.num_tokens == 1),
            np.flatnonzero(self.num_tokens > 1),
        )
        budget = self._grant(decoding, budget, running)
        self.budget = self._grant(filling, budget, running)

    def _grant(self, slots: Longs, budget: int, running: dict[int, Request]) -> int:
        """Serve these slots from `budget`; returns what is left of it."""
        wanted = int(self.num_tokens[slots].sum())
        if wanted <= budget:
            return budget - wanted
        for slot in sorted(slots.tolist(), key=lambda slot: running[slot].order):
            given = min(budget, int(self.num_tokens[slot]))
            self.num_tokens[slot] = given
            budget -= given
        return budget

    def add_row(self, row: NewRow, num_tokens: int) -> None:
        self.new_rows.append(row)
        self.num_tokens[row.slot] = num_tokens
        self.budget -= num_tokens

    def append_block(self, slot: int, index: int, block: int) -> None:
        self._appends[slot] = (index, block)

    def drop(self, slot: int) -> None:
        """The slot's request is no longer running."""
        self.budget += int(self.num_tokens[slot])
        self.num_tokens[slot] = 0
        self._appends.pop(slot, None)

    def plan(self, step: int, rows: Longs) -> StepPlan:
        slots, num_tokens = pack(rows), pack(self.num_tokens[rows])
        if not self._appends:
            return StepPlan(step=step, new_rows=self.new_rows, slots=slots, num_tokens=num_tokens)
        appends = self._appends.values()
        return StepPlan(
            step=step,
            new_rows=self.new_rows,
            slots=slots,
            num_tokens=num_tokens,
            append_slots=pack(list(self._appends)),
            append_index=pack([index for index, _ in appends]),
            append_blocks=pack([block for _, block in appends]),
        )


@dataclass
class Flight:
    """A plan whose result has not arrived. `slots` int64[n]: its rows.

    `vacated`: requests that left their slot since, by slot; their rows are not the slot's
    present owner's.
    """

    step: int
    slots: Longs
    vacated: dict[int, Request] = field(default_factory=dict)

    def vacate(self, request: Request) -> None:
        """The first to leave a slot after the plan was made is the one that it was made for."""
        self.vacated.setdefault(request.slot, request)

    def is_live(self) -> Mask:
        """bool[n]: rows whose request still has its slot."""
        return ~np.isin(self.slots, list(self.vacated))

    def departed(self) -> list[tuple[int, Request]]:
        """(row, request) of the other rows."""
        rows = np.flatnonzero(~self.is_live())
        return [(int(row), self.vacated[int(self.slots[row])]) for row in rows]
