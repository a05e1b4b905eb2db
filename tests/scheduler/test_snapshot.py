"""What the live page is told, and what that costs the scheduler's loop."""

from __future__ import annotations

import time
from collections import Counter

from sched_fake_worker import CheapWorker
from sched_harness import Harness, limits_of, request_id, submit_of

from octavo.services.scheduler.block_map import CACHED, FREE, MAX_CELLS, SHARED, BlockMap
from octavo.services.scheduler.block_pool import BlockPool
from octavo.services.scheduler.limits import Limits
from octavo.services.scheduler.live import Live
from octavo.services.scheduler.prefix_cache import PrefixCache
from octavo.services.scheduler.scheduler import Scheduler
from octavo.services.scheduler.snapshot import MAX_ROWS
from octavo.shared.messages import Submit, pack
from octavo.shared.sampling import SamplingParams

BUDGET = 0.005
"""Seconds of a core that a snapshot may take: one hundredth of the half second between two."""


def map_of(num_blocks: int) -> tuple[BlockMap, BlockPool, PrefixCache]:
    cache = PrefixCache(num_blocks)
    pool = BlockPool(num_blocks, cache.forget_block)
    return BlockMap(pool, cache), pool, cache


def test_a_block_shows_its_last_holder() -> None:
    shown, pool, cache = map_of(4)
    block = pool.take()
    shown.toggle([block], 7)
    cache.insert(b"key", block)
    assert shown.cells()[block] == 7
    pool.hold([block])
    shown.toggle([block], 9)
    assert shown.cells()[block] == SHARED
    assert shown.counts() == {"used": 1, "shared": 1, "cached": 0}
    pool.release(block, reuse_first=False)
    shown.toggle([block], 7)  # who took it first leaves first
    assert shown.cells()[block] == 9
    pool.release(block, reuse_first=False)
    shown.toggle([block], 9)
    assert shown.cells()[block] == CACHED
    assert shown.counts() == {"used": 0, "shared": 0, "cached": 1}


def test_cells_of_many_blocks_are_a_sample() -> None:
    shown, pool, _ = map_of(10 * MAX_CELLS + 1)
    half = [pool.take() for _ in range(5 * MAX_CELLS)]
    shown.toggle(half, 3)
    found = Counter(shown.cells())
    assert sum(found.values()) <= MAX_CELLS
    assert abs(found[3] - found[FREE]) <= 1


def test_what_waits_and_for_what() -> None:
    harness = Harness(limits_of(max_num_seqs=1))
    for number in range(3):
        harness.submit(submit_of(number, [number + 1] * 5, tenant="one"))
    harness.turn()
    found = harness.scheduler.snapshot()
    assert (found["running"], found["waiting"]) == (1, 2)
    assert [one["number"] for one in found["requests"]] == [0]
    assert [(one["number"], one["why"]) for one in found["queue"]] == [(1, "slot"), (2, "slot")]
    shares = {one["name"]: (one["running"], one["waiting"]) for one in found["tenants"]}
    assert shares == {"one": (1, 2)}
    [row] = found["requests"]
    assert row["blocks"] == sum(cell == row["colour"] for cell in found["map"]) > 0


def test_tokens_of_a_tenant_are_counted_as_they_come() -> None:
    harness = Harness(limits_of())
    harness.submit(submit_of(0, [1] * 4, tenant="one", max_tokens=20))
    seen = []
    for _ in range(8):
        harness.turn()
        seen += [one["tokens"] for one in harness.scheduler.snapshot()["tenants"]]
    assert seen == sorted(seen) and seen[-1] == len(harness.records[request_id(0)].token_ids) > 0


def test_several_frontends_share_a_snapshot() -> None:
    now = 100.0
    live = Live(Scheduler(limits_of(), model_name="tiny"), lambda: now)
    first = live.text()
    assert b'"model":"tiny"' in first
    now += 0.3
    assert live.text() is first
    now += 0.2
    assert live.text() is not first


def test_a_snapshot_costs_less_than_a_hundredth_of_a_core() -> None:
    """In the loop that everybody waits for: 1,000 requests run, 10,000 wait, 70,000 blocks."""
    running, waiting, prompt = 1000, 10_000, 512
    limits = Limits(
        num_blocks=70_000,
        block_size=16,
        max_model_len=1 << 16,
        max_num_seqs=running,
        max_num_batched_tokens=1 << 20,
        max_queued_requests=running + waiting,
    )
    scheduler, worker = Scheduler(limits), CheapWorker(running)
    for number in range(running + waiting):
        submit = Submit(
            request_id=number.to_bytes(16, "big"),
            prompt_ids=pack([number] * (prompt if number < running else 8)),
            sampling=SamplingParams(max_tokens=None),
            arrival_time=float(number),
            tenant=str(number % 50),
        )
        scheduler.add(b"frontend-0", submit)
    while scheduler.stats().running < running:
        plan = scheduler.schedule()
        assert plan is not None
        scheduler.update(worker.run(plan))
    found = scheduler.snapshot()
    assert found["running"] == running and found["blocks"]["used"] > 30_000
    assert len(found["requests"]) == len(found["queue"]) == MAX_ROWS
    assert min(seconds(scheduler) for _ in range(20)) < BUDGET


def seconds(scheduler: Scheduler) -> float:
    """This thread's, of one snapshot."""
    live = Live(scheduler, time.monotonic)
    began = time.thread_time()
    live.text()
    return time.thread_time() - began
