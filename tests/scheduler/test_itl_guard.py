"""Prompts beside decodes get what the wanted time between tokens leaves."""

from __future__ import annotations

import random
import statistics

import pytest
from sched_harness import Harness, limits_of, submit_of

from octavo.services.scheduler.itl_guard import FEWEST, ItlGuard
from octavo.shared.messages import unpack


def settled(target: float | None, decode: float, token: float = 2e-5) -> list[float]:
    """Seconds of steps that take so long, and so much more a prompt token; the last 2000."""
    guard, noise, took = ItlGuard(target), random.Random(0), []
    for _ in range(4000):
        prompts = guard.bound(512)
        took.append((decode + prompts * token) * noise.uniform(0.95, 1.05))
        guard.observe(took[-1], prompts)
    return took[2000:]


@pytest.mark.parametrize("target", [0.006, 0.008, 0.012])
def test_few_steps_take_longer(target: float) -> None:
    took = settled(target, decode=0.004)
    late = sum(one > target for one in took) / len(took)
    assert 0.005 < late < 0.06
    assert statistics.mean(took) > 0.88 * target, "and prompts get what there is"


def test_without_a_target_or_with_ample_room_nothing_is_held_back() -> None:
    for target in (None, 0.1):
        assert min(settled(target, decode=0.004)) > 0.0134


def test_prompts_always_get_on() -> None:
    guard = ItlGuard(0.001)
    assert guard.bound(512) == 512
    for _ in range(100):
        guard.observe(0.02, guard.bound(512))
    assert guard.bound(512) == FEWEST and guard.bound(3) == 3
    guard.observe(0.02, 0)
    assert guard.bound(512) == FEWEST


def test_steps_beside_decodes_keep_to_the_target() -> None:
    """The clock runs as a device would that takes 4 ms, and 0.1 ms a prompt token."""
    limits = limits_of(
        num_blocks=1200, max_model_len=2048, max_num_seqs=3, max_num_batched_tokens=512,
        prefix_caching=False, target_itl=0.01, prefill_beside_decode=200,
    )  # fmt: skip
    harness = Harness(limits)
    took: list[float] = []

    def turn() -> None:
        while harness.dispatch():
            pass
        plan = harness.plans[0]
        prompts = sum(count for count in unpack(plan.num_tokens).tolist() if count > 1)
        took.append(0.004 + prompts * 1e-4)
        harness.complete(took[-1])

    harness.submit(submit_of(0, [1], max_tokens=400))
    for _ in range(20):
        turn()
    for number in (1, 2):
        harness.submit(submit_of(number, [number] * 800, max_tokens=2))
    while not (harness.record(1).finished and harness.record(2).finished):
        turn()
    assert max(took[30:]) <= 0.0105, "once the first mixed steps have been seen"
    assert max(took) > 0.0105, "which have no bound"
    harness.abort(0)
    harness.drain()
