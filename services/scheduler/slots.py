"""Slots: what changes with every step, for all running requests, as arrays."""

from __future__ import annotations

import heapq
import mmap

import numpy as np
import numpy.typing as npt

from octavo.services.scheduler.limits import Limits
from octavo.services.scheduler.request import NO_SLOT, Request
from octavo.shared.messages import REQUEST_ID_BYTES, Ints

Longs = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
RequestIds = npt.NDArray[np.void]

CACHE_LINE = 16
"""int32 ids of a cache line."""
NO_PRIORITY = -(2**62)


class Slots:
    """Arrays indexed by slot, int64 as numpy indexes with it. A vacant slot has nothing to
    compute: `known` and `computed` are zero.

    `computed`: tokens in the KV cache once all planned steps ran. `known`: tokens of the
    sequence, those in flight included. `have`: tokens whose ids arrived. `capacity`: tokens that
    the block table has room for. `limit`, `min_len`: of the request. `first_len`: length with
    the first output. `token_time`: when the last output arrived.
    """

    def __init__(self, limits: Limits) -> None:
        size = limits.max_num_seqs
        self.computed: Longs = np.zeros(size, np.int64)
        self.known: Longs = np.zeros(size, np.int64)
        self.have: Longs = np.zeros(size, np.int64)
        self.capacity: Longs = np.zeros(size, np.int64)
        self.limit: Longs = np.zeros(size, np.int64)
        self.min_len: Longs = np.zeros(size, np.int64)
        self.first_len: Longs = np.zeros(size, np.int64)
        self.priority: Longs = np.full(size, NO_PRIORITY, np.int64)
        self.peer: Longs = np.zeros(size, np.int64)
        self.tenant: Longs = np.zeros(size, np.int64)
        self.token_time = np.zeros(size, np.float64)
        self.request_ids: RequestIds = np.zeros(size, f"V{REQUEST_ID_BYTES}")
        # One more cache line a row: with a power of two, the rows' last ids would all fall into
        # the same set of the cache.
        self._width = limits.max_model_len + CACHE_LINE
        self._ids = lazy_ids(size * self._width)
        self._start: Longs = np.arange(size, dtype=np.int64) * self._width
        # How many running requests would stop at each id: the vectorised half of the stop check.
        self._stops = np.zeros(limits.vocab_size, np.int32)
        self._vacant = list(range(size))
        self._block_size = limits.block_size

    @property
    def num_vacant(self) -> int:
        return len(self._vacant)

    def occupy(self, request: Request, peer: int, num_computed: int, priority: int) -> int:
        """Seat a request that has its blocks, in the lowest vacant slot; `priority`: its own, or a
        better one that it has got by waiting."""
        slot = request.slot = heapq.heappop(self._vacant)
        length = len(request.token_ids)
        self.computed[slot] = num_computed
        self.known[slot] = self.have[slot] = length
        self.capacity[slot] = len(request.block_ids) * self._block_size
        self.limit[slot] = request.limit
        self.min_len[slot] = request.min_len
        self.first_len[slot] = request.prompt_len + 1
        self.priority[slot] = priority
        self.peer[slot] = peer
        self.tenant[slot] = request.tenant
        self.token_time[slot] = request.token_time
        self.request_ids[slot] = np.void(request.request_id)
        start = slot * self._width
        self._ids[start : start + length] = request.token_ids
        self._count_stops(request, 1)
        return slot

    def vacate(self, request: Request) -> None:
        """Free the slot; the request keeps its ids."""
        slot, request.slot = request.slot, NO_SLOT
        start = slot * self._width
        request.token_ids = self._ids[start : start + int(self.have[slot])].copy()
        request.token_time = float(self.token_time[slot])
        self.computed[slot] = self.known[slot] = 0
        self.priority[slot] = NO_PRIORITY
        self._count_stops(request, -1)
        heapq.heappush(self._vacant, slot)

    def wanted(self) -> Longs:
        """int64[slots]: tokens each slot has to compute.

        None where the last token that the limit allows is in flight: it ends the request.
        """
        wanted = self.known - self.computed
        wanted *= self.known < self.limit
        return wanted

    def advance(self, num_tokens: Longs) -> None:
        """A plan gives int64[slots] `num_tokens`; who has caught up samples one more."""
        self.computed += num_tokens
        self.known += (self.computed == self.known) & (num_tokens > 0)

    def append(self, slots: Longs, token_ids: Ints) -> Longs:
        """One id for each of these slots; returns their new lengths."""
        have = self.have[slots]
        self._ids[self._start[slots] + have] = token_ids
        have += 1
        self.have[slots] = have
        return have

    def may_end(self, slots: Longs, lengths: Longs, token_ids: Ints) -> Longs:
        """Indices of rows at their limit, or whose id is a stop id of some running request."""
        # "clip": an id past the table finds a wrong count, and the exact check settles it.
        stops = self._stops.take(token_ids, mode="clip") > 0
        stops |= lengths >= self.limit[slots]
        rows: Longs = stops.nonzero()[0]
        return rows

    def _count_stops(self, request: Request, change: int) -> None:
        for token_id in request.stop_ids:
            self._stops[min(token_id, len(self._stops) - 1)] += change


def lazy_ids(size: int) -> Ints:
    """int32[size] of zeros that takes memory only where it is written.

    Slots times context length is hundreds of megabytes, of which few are ever used. numpy's own
    zeros asks for huge pages, and would make all of it resident at the first touches.
    """
    memory = mmap.mmap(-1, max(size, 1) * 4, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, np.int32)
