"""Tenants within their share are slowed down so much, and no more, by those over it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest
from sched_harness import Harness, limits_of, submit_of

from octavo.services.scheduler.rations import share_out
from octavo.services.scheduler.step_cost import StepCost
from octavo.services.scheduler.tenants import Tenants
from octavo.shared.messages import unpack

BASE, ROW, TOKEN = 0.004, 2.5e-5, 2e-5
"""Seconds: of a step, of a row in it, of a token of a prompt: about an H200's, for 8B."""


class Device:
    """A harness whose steps take as long as a GPU's would, and whose plans go out late."""

    def __init__(self, slowdown: float = 1.5, slots: int = 256, **limits: int) -> None:
        sizes = {"num_blocks": 50_000, "max_model_len": 40_000, "max_num_batched_tokens": 8192}
        self.harness = Harness(
            limits_of(
                **(sizes | {"prefill_beside_decode": 512} | limits),
                max_num_seqs=slots,
                prefix_caching=False,
                tenant_slowdown=slowdown,
            )
        )
        self.harness.check = lambda: None  # type: ignore[method-assign]  # slow, and tested elsewhere
        self.extra: Callable[[int], float] = lambda rows: 0.0
        self.rows: list[list[int]] = []
        self.seconds: list[float] = []

    def turn(self) -> None:
        """One step; the next plan is made as it ends, as `pace` has it."""
        harness = self.harness
        if not harness.plans:
            assert harness.dispatch()
        plan = harness.plans[0]
        rows = unpack(plan.slots).tolist()
        prompts = sum(count for count in unpack(plan.num_tokens).tolist() if count > 1)
        self.rows.append(rows)
        self.seconds.append(BASE + ROW * len(rows) + TOKEN * prompts + self.extra(len(rows)))
        harness.now += self.seconds[-1]
        harness.dispatch()
        harness.now -= self.seconds[-1]
        harness.complete(self.seconds[-1])

    def submit(self, number: int, tenant: str, length: int = 5, **fields: object) -> None:
        fields = {"max_tokens": 4000, "tenant": tenant, "arrival_time": self.harness.now, **fields}
        self.harness.submit(submit_of(number, [number % 40] * length, **fields))

    def until_first(self, *numbers: int) -> float:
        """Seconds until all of them have a token."""
        started, records = self.harness.now, [self.harness.record(one) for one in numbers]
        while not all(record.token_ids for record in records):
            self.turn()
        return self.harness.now - started

    def intervals(self, number: int, turns: int = 100) -> list[float]:
        """Seconds between tokens of a request."""
        record, times = self.harness.record(number), []
        for _ in range(turns):
            had = len(record.token_ids)
            self.turn()
            if len(record.token_ids) > had:
                times.append(self.harness.now)
        return np.diff(times).tolist()

    def end(self) -> None:
        self.harness.abort(*range(len(self.harness.records)))
        self.harness.drain()


def alone(length: int, streams: int = 2) -> tuple[float, float]:
    """Seconds to the first token, and between tokens, of a tenant that has the device."""
    device = Device()
    for number in range(streams):
        device.submit(number, "small", length)
    first = device.until_first(*range(streams))
    between = statistics.mean(device.intervals(0, 20))
    device.end()
    return first, between


@pytest.mark.parametrize("length", [100, 1000])
def test_two_beside_two_hundred(length: int) -> None:
    """First token and every interval stay within 1.5 times of alone. (A prompt of 100 tokens takes
    less than half a step, so half of the large one's step is a millisecond more than that.)"""
    first, between = alone(length)
    device = Device()
    for number in range(200):
        device.submit(number, "large", 200)
    for _ in range(60):
        device.turn()
    waits = []
    for number in range(200, 206, 2):
        device.submit(number, "small", length)
        device.submit(number + 1, "small", length)
        passed = device.seconds[-1] / 2  # of the step that runs: on average, half is to come
        waits.append(device.until_first(number, number + 1) - passed)
        intervals = device.intervals(number, 50)
        device.harness.abort(number, number + 1)
    assert statistics.mean(waits) < 1.5 * first + (length == 100) * 0.002
    assert statistics.mean(intervals) < 1.5 * between
    assert max(intervals) < 1.55 * between
    had = len(device.harness.record(0).token_ids)
    device.submit(206, "small", 5)
    for _ in range(60):
        device.turn()
    assert len(device.harness.record(0).token_ids) - had >= 20, "the others get on as well"
    device.end()


@pytest.mark.parametrize(("slowdown", "least", "most"), [(2.0, 1.7, 2.05), (0.0, 2.1, 2.3)])
def test_other_bounds(slowdown: float, least: float, most: float) -> None:
    device = Device(slowdown)
    for number in range(200):
        device.submit(number, "large", 200)
    for _ in range(100):
        device.turn()
    device.submit(200, "small")
    device.until_first(200)
    slower = statistics.mean(device.intervals(200)) / (BASE + ROW)
    assert least < slower < most
    device.end()


def test_streams_beside_one_long_prompt() -> None:
    device = Device()
    for number in (0, 1):
        device.submit(number, "small")
    for _ in range(50):
        device.turn()
    device.submit(2, "large", 30_000)
    intervals = device.intervals(0)
    alone = BASE + 2 * ROW
    assert statistics.mean(intervals) < 1.6 * alone, "but for what it gets before it is over"
    assert sum(one > 1.6 * alone for one in intervals) < 5
    device.until_first(2)
    device.end()


def test_equals_are_all_in_every_step() -> None:
    device = Device()
    for number in range(100):
        device.submit(number, "first" if number % 2 else "second")
    for _ in range(50):
        device.turn()
    assert all(len(rows) == 100 for rows in device.rows[10:])
    device.end()


def test_many_small_tenants_are_not_held_back() -> None:
    device = Device()
    for number in range(100):
        device.submit(number, f"tenant-{number}")
    for _ in range(50):
        device.turn()
    assert all(len(rows) == 100 for rows in device.rows[10:])
    device.end()


def test_who_has_a_better_priority_is_in_every_step() -> None:
    device = Device()
    for number in range(200):
        device.submit(number, "large", priority=-1)
    device.submit(200, "small")
    for _ in range(50):
        device.turn()
    assert all(len(rows) == 201 for rows in device.rows[10:])
    device.end()


def test_a_tenant_over_its_share_gets_on_with_rows_and_with_requests() -> None:
    """Nobody of it is left out for good, not even who comes last."""
    device = Device()
    device.submit(0, "small")
    for number in range(1, 200):
        device.submit(number, "large", 50, max_tokens=3000)
    for _ in range(80):
        device.turn()
    device.submit(200, "large", 500)
    device.until_first(200)
    had = [len(device.harness.record(number).token_ids) for number in range(1, 200)]
    for _ in range(20):
        device.turn()
    got = [len(device.harness.record(n + 1).token_ids) - had[n] for n in range(199)]
    assert min(got) >= 1 and max(got) - min(got) <= 1
    device.end()


def test_blocks_are_shared_as_slots_are() -> None:
    """Where the cache is full and slots are not, a small tenant still comes in, and stays."""
    device = Device(slots=256, num_blocks=4000)
    for number in range(200):
        device.submit(number, "large", 320)
    for _ in range(60):
        device.turn()
    assert device.harness.life.slots.num_vacant > 100
    for number in (200, 201):
        device.submit(number, "small", 320)
    first, _ = alone(320)
    assert device.until_first(200, 201) < 2 * first
    for _ in range(100):
        device.turn()
    small = [one for one in device.harness.life.requests.values() if one.order[-1] >= 200]
    assert [one.num_preemptions for one in small] == [0, 0]
    device.end()


def test_many_users_cost_little() -> None:
    """A step's plan stays short with thousands of tenants in the queue."""
    harness = Harness(limits_of(num_blocks=4000, max_num_seqs=64, max_num_batched_tokens=256))
    for number in range(64):
        harness.submit(submit_of(number, [1], max_tokens=60, tenant="large"))
    harness.check = lambda: None  # type: ignore[method-assign]
    for _ in range(4):
        harness.turn()
    for number in range(64, 2112):
        harness.submit(submit_of(number, [1], max_tokens=60, tenant=f"user-{number}"))
    began = time.thread_time()
    for _ in range(10):
        harness.scheduler.schedule()
    assert time.thread_time() - began < 2.0


def test_a_newcomer_goes_first_where_all_have_had_as_much() -> None:
    harness = Harness(limits_of(max_num_seqs=2))
    for number in range(3):
        harness.submit(submit_of(number, [1], max_tokens=30, tenant="large"))
    harness.turn()
    harness.submit(submit_of(3, [1], max_tokens=3, tenant="small", arrival_time=9.0))
    first = harness.life.waiting.first()
    assert first is not None and first.arrival_time == 9.0
    harness.abort(0, 1, 2)
    harness.drain()


def test_steps_that_take_longer_than_foreseen_get_less() -> None:
    """A device on which the first rows are cheap and the last ones dear."""
    device = Device()
    device.extra = lambda rows: 0.005 if rows > 20 else 0.0
    for number in range(100):
        device.submit(number, "large", 200)
    device.submit(100, "small")
    device.until_first(100)
    device.intervals(100, 150)
    assert statistics.mean(device.seconds[-100:]) < 1.6 * (BASE + ROW)
    device.end()


def test_step_cost_finds_the_three_numbers() -> None:
    cost = StepCost()
    draw = np.random.default_rng(0)
    for _ in range(300):
        rows, prompts = int(draw.integers(1, 256)), int(draw.integers(0, 2) * 2000)
        noise = draw.uniform(0.97, 1.03)
        cost.observe(rows, prompts, (BASE + ROW * rows + TOKEN * prompts) * noise)
    cost.observe(100, 0, 5.0)  # something held it up
    assert cost.seconds(0, 0) == pytest.approx(BASE, rel=0.15)
    assert cost.seconds(200, 0) == pytest.approx(BASE + 200 * ROW, rel=0.1)
    assert cost.seconds(10, 1000) == pytest.approx(BASE + 10 * ROW + 1000 * TOKEN, rel=0.1)


def test_step_cost_foresees_what_it_has_seen() -> None:
    cost = StepCost()
    assert cost.seconds(10, 100) == 0.0
    for _ in range(50):
        cost.observe(200, 0, 0.009)
    assert cost.seconds(200, 0) == pytest.approx(0.009, rel=0.01)
    assert 0.0 < cost.seconds(2, 0) < 0.009


def test_parts_are_max_min_fair() -> None:
    parts = share_out(10.0, np.array([1.0, 0.0, 20.0, 6.0]), np.array([1.0, 1.0, 2.0, 1.0]))
    assert parts.tolist() == [1.0, 0.0, 6.0, 3.0]


def test_over_its_share_is_who_has_had_more_lately() -> None:
    tenants = Tenants(4, 4)
    one, other = tenants.join("one"), tenants.join("other")
    both, tokens = np.array([one, other]), np.array([90, 10])
    tenants.charge(both, tokens, 0.0)
    assert tenants.over(np.zeros(8)) == {one}
    tenants.charge(both, np.array([0, 500]), 10.0)
    assert tenants.over(np.zeros(8)) == {other}, "what was long ago does not count"
    assert tenants.over(np.array([9000.0, *np.zeros(7)])) == {one}, "what is wanted now does"
