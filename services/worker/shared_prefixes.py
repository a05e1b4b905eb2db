"""SharedPrefixes: which running requests begin with the same KV blocks.

The scheduler gives requests the same blocks where their prompts begin alike. Tables of running
requests only grow, so who shares what is settled when a request is admitted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from octavo.kernels.prefix_plan import PrefixGroup
from octavo.services.worker.slots import Ints, Rows
from octavo.shared.messages import unpack
from octavo.shared.steps import NewRow

NO_GROUP = -1
TILE = 64
MIN_TOKENS = 512
"""Shorter beginnings are not worth a launch."""
MIN_SAVED = 64 * TILE
"""Keys a step must save of one KV head, in all."""


@dataclass
class _Group:
    """Requests that begin with `blocks[:length]`."""

    blocks: Ints
    length: int
    slots: set[int] = field(default_factory=set)


class SharedPrefixes:
    def __init__(self, max_slots: int, block_size: int) -> None:
        self._block_size = block_size
        self._groups: dict[int, _Group] = {}
        """By the first block."""
        self._group_of = np.full(max_slots, NO_GROUP, np.int64)
        self._present = np.zeros(max_slots, np.bool_)
        self._changed = True
        self._last: tuple[bytes, list[PrefixGroup]] = (b"", [])

    def admit(self, row: NewRow) -> None:
        """A request takes a slot, with its block table."""
        self._leave(row.slot)
        blocks = unpack(row.block_ids)[: row.prompt_len // self._block_size]
        if len(blocks) * self._block_size < MIN_TOKENS:
            return
        first = int(blocks[0])
        group = self._groups.get(first)
        if group is None or not self._present[list(group.slots)].any():
            group = self._groups[first] = self._found(first, blocks)
        common = _common(group.blocks[: group.length], blocks)
        if common * self._block_size >= MIN_TOKENS:
            group.length = common
            group.slots.add(row.slot)
            self._group_of[row.slot] = first
        self._changed = True

    def _found(self, first: int, blocks: Ints) -> _Group:
        """A group of its own; whoever was in one of that name is gone."""
        self._group_of[self._group_of == first] = NO_GROUP
        return _Group(blocks, len(blocks))

    def _leave(self, slot: int) -> None:
        first = int(self._group_of[slot])
        if first != NO_GROUP:
            self._group_of[slot] = NO_GROUP
            group = self._groups[first]
            group.slots.discard(slot)
            if not group.slots:
                del self._groups[first]
        self._present[slot] = True

    def groups(self, rows: Rows) -> list[PrefixGroup]:
        """The groups among these rows that are worth it. The same list while nothing changes."""
        name = rows.slots.tobytes()
        if self._changed or name != self._last[0]:
            self._present[:] = False
            self._present[rows.slots] = True
            self._changed = False
            self._last = (name, self._find(rows))
        return self._last[1]

    def _find(self, rows: Rows) -> list[PrefixGroup]:
        group_of = self._group_of[rows.slots]
        firsts, counts = np.unique(group_of[group_of != NO_GROUP], return_counts=True)
        found = []
        for first in firsts[counts > 1].tolist():
            length = self._groups[first].length * self._block_size
            # A prompt may still be on its way through the beginning, a token a step.
            beyond = rows.computed >= length
            members = np.flatnonzero((group_of == first) & beyond).tolist()
            self._changed |= len(members) < int(np.count_nonzero(group_of == first))
            if (len(members) - 1) * length >= MIN_SAVED:
                slot = int(rows.slots[members[0]])
                found.append(PrefixGroup(members, slot, length // TILE))
        return found


def _common(one: Ints, other: Ints) -> int:
    """Length of the common beginning."""
    length = min(len(one), len(other))
    differs = np.flatnonzero(one[:length] != other[:length])
    return int(differs[0]) if len(differs) else length
