"""Rations: what a step has room for of tenants that have had more than their share.

A step lasts as long as its work, so 200 rows of one tenant, or one long prompt, slow the two rows
of another down. Where tenants differ, a step is made as if those over their share were not there;
then as much of theirs is added as makes it last `slowdown` times as long: rows that have waited
longest first, a prompt in pieces. What that takes is foreseen from the last steps (`step_cost`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from octavo.services.scheduler.slots import Longs, Mask
from octavo.services.scheduler.step_cost import StepCost

Seconds = npt.NDArray[np.float64]
BESIDE_PROMPTS = 0.1
"""Of the room, where the others have prompts in the step: they have waited for the one before."""
LOOK_AGAIN = 256
"""Steps."""
LESS, MORE, LEAST = 0.97, 1.01, 0.1
PLENTY = 1 << 62
FEWEST_TOKENS = 16
"""Of a prompt that is begun or gone on with."""


@dataclass(frozen=True)
class Held:
    """Whose rows come after the others', and int64[slots] what these want."""

    tenants: frozenset[int]
    wanted: Longs


class Rations:
    """`slowdown`: at least 1; 0: everybody is in every step."""

    def __init__(self, slowdown: float, num_slots: int) -> None:
        self.active = slowdown > 0
        self.cost = StepCost()
        self._slack = slowdown - 1
        self._turn: Longs = np.zeros(num_slots, np.int64)
        """Less is next: numbers in the order in which slots were picked."""
        self._last_turn = 0
        self._trust = 1.0
        """How much of the room is given: less where steps take longer than foreseen."""

    def looks(self, rows: int, prompts: int) -> bool:
        """Whether the others' step, of so many rows and tokens of prompts, is to be left alone for
        once, to see what it takes."""
        return rows > 0 and not prompts and self.cost.age(rows) > LOOK_AGAIN

    def bound(self, rows: int, prompts: int) -> tuple[float, float]:
        """Seconds to add to the others' step, of so many rows and tokens of prompts; and those
        that it may last."""
        others = self.cost.seconds(rows, prompts)
        if not rows or not others:
            return math.inf, math.inf  # nobody is slowed down, or nobody knows by how much
        slack = self._slack * (BESIDE_PROMPTS if prompts else 1.0) * others
        return slack * self._trust, others + slack

    def settle(self, seconds: float, bound: float) -> None:
        """A step that was not to last longer than `bound` has lasted so long."""
        self._trust *= LESS if seconds > bound else MORE
        self._trust = min(max(self._trust, LEAST), 1.0)

    def pick(
        self, room: float, wanted: Longs, filling: Mask, tenant: Longs, weight: Seconds
    ) -> Longs:
        """int64[slots]: what of int64[slots] `wanted` goes in.

        `filling` bool[slots]: its tokens are of a prompt; `tenant` int64[slots]; `weight` by
        tenant.
        """
        if math.isinf(room):
            return wanted
        slots = wanted.nonzero()[0]
        slots = slots[np.argsort(self._turn[slots], kind="stable")]
        costs = self.cost.row + self.cost.token * np.where(filling[slots], wanted[slots], 0)
        picked = np.zeros_like(wanted)
        demand: Seconds = np.zeros(len(weight))
        np.add.at(demand, tenant[slots], costs)
        parts = share_out(room, demand, weight)
        for number in np.unique(tenant[slots]).tolist():
            mine = tenant[slots] == number
            self._fill(picked, slots[mine], costs[mine], float(parts[number]), wanted, filling)
        return picked

    def _fill(
        self, picked: Longs, slots: Longs, costs: Seconds, room: float, wanted: Longs, filling: Mask
    ) -> None:
        """One tenant's: at least one row, and of the first that is too much a piece."""
        whole = int(np.searchsorted(np.cumsum(costs), room * (1 + 1e-9), side="right"))
        picked[slots[:whole]] = wanted[slots[:whole]]
        self._turn[slots[:whole]] = self._last_turn + np.arange(1, whole + 1)
        self._last_turn += whole
        if whole == len(slots):
            return
        slot, left = int(slots[whole]), room - float(costs[:whole].sum()) - self.cost.row
        piece = int(left / self.cost.token) if filling[slot] and self.cost.token else 0
        if not whole:
            piece = max(piece, FEWEST_TOKENS)
        if piece >= FEWEST_TOKENS:
            picked[slot] = min(piece, int(wanted[slot]))

    def tokens(self, room: float) -> int:
        """Of prompts, in so many seconds."""
        if math.isinf(room) or not self.cost.token:
            return PLENTY
        return int(room / self.cost.token)


def split(room: float, part: float) -> tuple[float, float]:
    """Both parts of so many seconds; of no end of them, no end."""
    return (room, room) if math.isinf(room) else (room * (1 - part), room * part)


def share_out(room: float, demand: Seconds, weight: Seconds) -> Seconds:
    """Max-min fair: who wants less than an even part, by weight, gets it; the others share the
    rest."""
    parts, left = np.zeros_like(demand), float(weight[demand > 0].sum())
    wanting = demand.nonzero()[0]
    for number in wanting[np.argsort(demand[wanting] / weight[wanting])].tolist():
        parts[number] = min(float(demand[number]), room * float(weight[number]) / left)
        room, left = room - parts[number], left - float(weight[number])
    return parts
