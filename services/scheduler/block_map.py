"""BlockMap: what the live page shows of every block, kept up as blocks change hands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from octavo.services.scheduler.block_pool import BlockPool
from octavo.services.scheduler.prefix_cache import PrefixCache

MAX_CELLS = 4096
"""That the page draws."""
FREE, CACHED, SHARED = 0, 1, 2
FIRST_OWNER = 3
OWNERS = 253
"""Numbers of owners, which are used again: they are colours."""


def colour_of(serial: int) -> int:
    """3 to 255."""
    return FIRST_OWNER + serial % OWNERS


class BlockMap:
    """`owners`: of each block the XOR of its holders' colours, so where there is one, its colour,
    whoever held the block with it before."""

    def __init__(self, pool: BlockPool, cache: PrefixCache) -> None:
        self._pool, self._cache = pool, cache
        self.owners = bytearray(pool.num_blocks)

    def toggle(self, blocks: Iterable[int], colour: int) -> None:
        """Somebody of this colour takes the blocks, or gives them back."""
        owners = self.owners
        for block in blocks:
            owners[block] ^= colour

    def cells(self) -> bytes:
        """uint8 of every block, or every n-th so that MAX_CELLS are enough: FREE, CACHED (free, but
        findable), SHARED by several, or its owner's colour."""
        share = -(-self._pool.num_blocks // MAX_CELLS)
        refs = self._pool.refs_by_block()[::share]
        cells = np.where(refs == 1, _bytes(self.owners)[::share], self._cached(share))
        cells[refs > 1] = SHARED
        found: bytes = cells.tobytes()
        return found

    def counts(self) -> dict[str, int]:
        """Blocks by what they are: `used` by anybody, `shared` of these, `cached` of the others."""
        refs = self._pool.refs_by_block()
        return {
            "used": self._pool.num_used,
            "shared": int(np.count_nonzero(refs > 1)),
            "cached": int(np.count_nonzero(_bytes(self._cache.findable) > refs)),
        }

    def _cached(self, share: int) -> Any:
        return _bytes(self._cache.findable)[::share]


def _bytes(values: bytearray) -> Any:
    """uint8: the very memory."""
    return np.frombuffer(values, np.uint8)
