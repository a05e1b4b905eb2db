"""BlockPool: which KV blocks are free, who holds the others, and what is reused first."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable

import numpy as np

from octavo.shared.errors import OctavoError
from octavo.shared.messages import Ints


class OutOfBlocks(OctavoError):
    pass


class BlockPool:
    """Reference counts, and an intrusive doubly linked list of the free blocks in LRU order.

    Lists indexed by block instead of node objects: any block leaves the free list in O(1) (a
    prefix hit), and nothing is allocated. Only this class touches them. A free block keeps its
    contents, and stays findable, until `take` gives it to a new owner: `on_reuse` then tells the
    prefix cache.
    """

    def __init__(self, num_blocks: int, on_reuse: Callable[[int], None]) -> None:
        self.num_blocks = num_blocks
        self.num_free = num_blocks
        self._on_reuse = on_reuse
        self._refs = array("i", bytes(4 * num_blocks))
        self._end = num_blocks
        self._next: list[int] = [*range(1, num_blocks + 1), 0]
        self._prev: list[int] = [num_blocks, *range(num_blocks)]

    @property
    def num_used(self) -> int:
        return self.num_blocks - self.num_free

    def refs(self, block: int) -> int:
        return self._refs[block]

    def refs_by_block(self) -> Ints:
        """int32[blocks]: a view, to be read only."""
        return np.frombuffer(self._refs, np.int32)

    def free_blocks(self) -> list[int]:
        """The free list, next to be reused first."""
        blocks = []
        block = self._next[self._end]
        while block != self._end:
            blocks.append(block)
            block = self._next[block]
        return blocks

    def take(self) -> int:
        """The block that has been free longest, for one owner. Raise OutOfBlocks."""
        block = self._next[self._end]
        if block == self._end:
            raise OutOfBlocks("no free block")
        self._unlink(block)
        self._refs[block] = 1
        self._on_reuse(block)
        return block

    def hold(self, blocks: Iterable[int]) -> None:
        """One more owner of blocks that the prefix cache found, free or not."""
        for block in blocks:
            if not self._refs[block]:
                self._unlink(block)
            self._refs[block] += 1

    def release(self, block: int, reuse_first: bool) -> None:
        """One owner less. With none left: to the end of the free list, or to its head."""
        self._refs[block] -= 1
        if self._refs[block] == 0:
            self._link(block, self._end if not reuse_first else self._next[self._end])
        elif self._refs[block] < 0:
            raise ValueError(f"block {block} released without an owner")

    def _unlink(self, block: int) -> None:
        before, after = self._prev[block], self._next[block]
        self._next[before] = after
        self._prev[after] = before
        self.num_free -= 1

    def _link(self, block: int, after: int) -> None:
        before = self._prev[after]
        self._next[before] = self._prev[after] = block
        self._prev[block], self._next[block] = before, after
        self.num_free += 1
