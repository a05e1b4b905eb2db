"""KVBlocks: the blocks of requests. The only user of the pool and the prefix cache."""

from __future__ import annotations

from octavo.services.scheduler.block_map import BlockMap
from octavo.services.scheduler.block_pool import BlockPool
from octavo.services.scheduler.limits import Limits
from octavo.services.scheduler.prefix_cache import BlockHasher, PrefixCache
from octavo.services.scheduler.request import Request
from octavo.shared.messages import Ints


class KVBlocks:
    """A request's whole known sequence gets its blocks at admission, then one as it grows."""

    def __init__(self, limits: Limits, fingerprint: bytes) -> None:
        self._limits = limits
        self._caching = limits.prefix_caching
        self.cache = PrefixCache(limits.num_blocks)
        self.pool = BlockPool(limits.num_blocks, on_reuse=self.cache.forget_block)
        self.map = BlockMap(self.pool, self.cache)
        self._owners = self.map.owners
        self._hasher = BlockHasher(fingerprint, limits.block_size)

    def find(self, request: Request) -> list[int]:
        """Cached blocks that a waiting request can start from; one token stays to compute."""
        if not self._caching:
            return []
        known = len(request.token_ids)
        self._hasher.extend(request.keys, request.token_ids, known, request.cache_salt)
        if request.sampling.prompt_logprobs is not None:
            return []
        return self.cache.find(request.keys[: (known - 1) // self._limits.block_size])

    def shortage(self, request: Request, hits: list[int]) -> int:
        """Free blocks that are missing to admit the request; 0 or less: it fits."""
        idle_hits = sum(self.pool.refs(block) == 0 for block in hits)
        needed = self._limits.blocks_for(len(request.token_ids)) - len(hits)
        return needed + idle_hits - self.pool.num_free

    def admit(self, request: Request, hits: list[int]) -> None:
        """Give a request its block table. The hits are held first, lest `take` reuse them."""
        self.pool.hold(hits)
        missing = self._limits.blocks_for(len(request.token_ids)) - len(hits)
        request.block_ids = hits + [self.pool.take() for _ in range(missing)]
        request.num_published = len(hits)
        self.map.toggle(request.block_ids, request.colour)

    def grow(self, request: Request) -> int:
        """One more block at the end of a request's table."""
        block = self.pool.take()
        request.block_ids.append(block)
        self._owners[block] ^= request.colour
        return block

    def publish(self, request: Request, num_computed: int) -> None:
        """Make the full blocks of the first `num_computed` tokens findable, as far as keyed.

        A planned step is as good as a computed one: the workers run plans in order, so whoever
        finds the block in a later plan reads it after it was written.
        """
        end = min(num_computed // self._limits.block_size, len(request.keys))
        for index in range(request.num_published, end):
            self.cache.insert(request.keys[index], request.block_ids[index])
        request.num_published = max(request.num_published, end)

    def publish_outputs(self, request: Request, token_ids: Ints) -> None:
        """Key and publish what a leaving request computed, its outputs included.

        Not step by step as they fill: nobody can ask for an output before it was returned.
        """
        if self._caching:
            num_tokens = len(token_ids)
            self._hasher.extend(request.keys, token_ids, num_tokens, request.cache_salt)
            self.publish(request, num_tokens)

    def release(self, request: Request) -> None:
        """Give all blocks back, last first: of a prefix the end is reused before the start."""
        for block in reversed(request.block_ids):
            self.pool.release(block, reuse_first=block not in self.cache)
        self.map.toggle(request.block_ids, request.colour)
        request.block_ids = []
        request.num_published = 0

    def distrust(self, request: Request) -> None:
        """Nobody may start from blocks that this request has written or read."""
        self.cache.forget_keys(request.keys)

    def distrust_own(self, request: Request) -> None:
        """Nor from those it has written itself: no token of it has shown that their numbers are
        sound. What it was given by the cache, others have shown."""
        if request.cached_tokens is not None:
            first = request.cached_tokens // self._limits.block_size
            self.cache.forget_keys(request.keys[first:])
