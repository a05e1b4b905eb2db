"""A step being planned (Draft) and a step on its way through the workers (Flight)."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from octavo.services.scheduler.request import Request
from octavo.services.scheduler.slots import Longs, Mask
from octavo.shared.messages import pack
from octavo.shared.steps import NewRow, StepPlan


class Draft:
    """`num_tokens` int64[slots]: what each slot gets; `budget`: tokens still to give away.

    `filling`: slots whose tokens are of prompts. `decodes`: tokens of the others, as wanted;
    `prompts`: those of prompts, at most `share`; `bound`: seconds that it should not outlast.
    """

    def __init__(self, wanted: Longs, filling: Collection[int], budget: int) -> None:
        total = int(wanted.sum())
        self.num_tokens = wanted
        self.budget = budget - total
        self.prompts = sum(int(wanted[slot]) for slot in filling) if filling else 0
        self.decodes = total - self.prompts
        self.share = budget
        self.bound = math.inf
        self._filling = filling
        self.new_rows: list[NewRow] = []
        self.keys: set[bytes] = set()
        """Prefix-cache keys of the blocks that this step fills."""
        self._appends: dict[int, tuple[int, int]] = {}

    @property
    def room(self) -> int:
        """Tokens that prompts may still get."""
        return min(self.budget, self.share - self.prompts)

    @property
    def num_rows(self) -> int:
        return int(np.count_nonzero(self.num_tokens))

    def trim(self, running: dict[int, Request]) -> None:
        """Bring a step that is over a bound back to it: decodes first, each kind in order."""
        if self.budget >= 0 and self.prompts <= self.share:
            return
        budget = self.budget + int(self.num_tokens.sum())
        filling = np.array(list(self._filling), np.int64)
        decoding = np.setdiff1d(np.flatnonzero(self.num_tokens), filling)
        budget = self._grant(decoding, budget, running)
        share = min(budget, self.share)
        self.prompts = share - self._grant(filling, share, running)
        self.budget = budget - self.prompts

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
        self.prompts += num_tokens

    def add(self, num_tokens: Longs) -> None:
        """int64[slots] `num_tokens` more, for slots that had none."""
        total = int(num_tokens.sum())
        prompts = sum(int(num_tokens[slot]) for slot in self._filling)
        self.num_tokens += num_tokens
        self.budget -= total
        self.prompts += prompts
        self.decodes += total - prompts

    def leave_room(self, num_tokens: int) -> None:
        """For so many more tokens of prompts, if there is room for as many."""
        self.share = min(self.share, self.prompts + num_tokens)

    def append_block(self, slot: int, index: int, block: int) -> None:
        self._appends[slot] = (index, block)

    def drop(self, slot: int) -> None:
        """The slot's request will run no longer, even if this step was to be its first."""
        self.new_rows = [row for row in self.new_rows if row.slot != slot]
        num_tokens = int(self.num_tokens[slot])
        self.budget += num_tokens
        self.prompts -= num_tokens if slot in self._filling else 0
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


def cut(num_tokens: Longs, most: int) -> Longs:
    """int64[slots] `num_tokens`, as far as the first of them come to `most`."""
    before = np.cumsum(num_tokens) - num_tokens
    kept: Longs = np.clip(most - before, 0, num_tokens)
    return kept


@dataclass
class Flight:
    """A plan whose result has not arrived. `slots` int64[n]: its rows.

    `vacated`: requests that left their slot since, by slot; their rows are not the slot's
    present owner's.
    """

    step: int
    slots: Longs
    prompts: int = 0
    """Tokens of prompts in it, beside `decodes` of other rows."""
    decodes: int = 0
    bound: float = math.inf
    """As in Draft."""
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
