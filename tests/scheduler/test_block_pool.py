from __future__ import annotations

import pytest

from octavo.services.scheduler.block_pool import BlockPool, OutOfBlocks


def make(num_blocks: int = 4) -> tuple[BlockPool, list[int]]:
    reused: list[int] = []
    return BlockPool(num_blocks, reused.append), reused


def test_takes_the_block_that_was_free_longest() -> None:
    pool, reused = make()
    assert [pool.take() for _ in range(4)] == [0, 1, 2, 3]
    for block in (2, 0, 3):
        pool.release(block, reuse_first=False)
    assert pool.free_blocks() == [2, 0, 3]
    assert pool.take() == 2
    assert reused == [0, 1, 2, 3, 2]


def test_a_block_without_cached_contents_is_reused_first() -> None:
    pool, _ = make()
    for _ in range(4):
        pool.take()
    pool.release(1, reuse_first=False)
    pool.release(3, reuse_first=True)
    assert pool.free_blocks() == [3, 1]


def test_hold_takes_a_free_block_out_of_the_middle() -> None:
    pool, reused = make()
    pool.hold([1, 2])
    assert pool.free_blocks() == [0, 3]
    assert pool.num_free == pool.num_used == 2
    assert not reused, "its contents stay"


def test_shared_blocks_are_free_when_the_last_owner_lets_go() -> None:
    pool, _ = make(1)
    block = pool.take()
    pool.hold([block])
    pool.release(block, reuse_first=True)
    assert (pool.refs(block), pool.num_free) == (1, 0)
    pool.release(block, reuse_first=True)
    assert (pool.refs(block), pool.free_blocks()) == (0, [block])


def test_errors() -> None:
    pool, _ = make(1)
    pool.take()
    with pytest.raises(OutOfBlocks):
        pool.take()
    pool.release(0, reuse_first=True)
    with pytest.raises(ValueError, match="without an owner"):
        pool.release(0, reuse_first=True)
