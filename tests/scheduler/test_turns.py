"""Tenants within their share are slowed down so much, and no more, by those over it."""

from __future__ import annotations

import statistics

import pytest
from sched_harness import Harness, limits_of, submit_of

from octavo.shared.messages import unpack


class Device:
    """A harness whose steps take as long as a GPU's would: 4 ms, and 0.03 ms a token."""

    def __init__(self, slowdown: float, slots: int = 256) -> None:
        self.harness = Harness(
            limits_of(
                num_blocks=20_000,
                max_model_len=2000,
                max_num_seqs=slots,
                max_num_batched_tokens=2048,
                prefix_caching=False,
                tenant_slowdown=slowdown,
            )
        )
        self.seconds: list[float] = []
        self.rows: list[list[int]] = []

    def turn(self) -> None:
        harness = self.harness
        while harness.dispatch():
            pass
        plan = harness.plans[0]
        self.rows.append(unpack(plan.slots).tolist())
        self.seconds.append(0.004 + 3e-5 * sum(unpack(plan.num_tokens).tolist()))
        harness.complete(self.seconds[-1])

    def submit(self, number: int, tenant: str, length: int = 5, **fields: object) -> None:
        fields = {"max_tokens": 400, "tenant": tenant, "arrival_time": self.harness.now, **fields}
        self.harness.submit(submit_of(number, [number % 40] * length, **fields))

    def mean_interval(self, number: int, turns: int = 200) -> float:
        """Seconds between tokens of a request."""
        record, started = self.harness.record(number), self.harness.now
        before = len(record.token_ids)
        for _ in range(turns):
            self.turn()
        return (self.harness.now - started) / (len(record.token_ids) - before)

    def end(self) -> None:
        self.harness.abort(*range(len(self.harness.records)))
        self.harness.drain()


@pytest.mark.parametrize(("slowdown", "most"), [(1.5, 1.5), (2.0, 2.0), (0.0, 2.6)])
def test_a_small_tenant_beside_a_large_one(slowdown: float, most: float) -> None:
    device = Device(slowdown)
    for number in range(200):
        device.submit(number, "large")
    for _ in range(20):
        device.turn()
    for number in (200, 201):
        device.submit(number, "small")
    for _ in range(20):
        device.turn()
    alone = 0.004 + 2 * 3e-5
    slower = device.mean_interval(200) / alone
    assert most - 0.35 <= slower <= most
    assert len(device.harness.record(0).token_ids) > 50, "the others get on as well"
    device.end()


def test_prompts_of_a_small_tenant_go_alone() -> None:
    device = Device(1.5)
    for number in range(200):
        device.submit(number, "large", length=100)
    for _ in range(60):
        device.turn()
    waits = []
    for number in range(200, 220):
        device.submit(number, "small", length=100, max_tokens=20)
        started, record = device.harness.now, device.harness.record(number)
        while not record.token_ids:
            device.turn()
        waits.append(device.harness.now - started)
        while not record.finished:
            device.turn()
    assert statistics.median(waits) < 0.03, "two steps in flight, and its own of 7 ms"
    device.end()


def test_a_flood_of_prompts_does_not_starve_the_others() -> None:
    device = Device(1.5)
    for number in range(100):
        device.submit(number, "large")
    for _ in range(30):
        device.turn()
    for number in range(100, 140):
        device.submit(number, "small", length=1500, max_tokens=2)
    had = len(device.harness.record(0).token_ids)
    for _ in range(30):
        device.turn()
    assert len(device.harness.record(0).token_ids) - had >= 5
    device.end()


def test_equals_do_not_take_turns() -> None:
    device = Device(1.5)
    for number in range(100):
        device.submit(number, "first" if number % 2 else "second")
    for _ in range(50):
        device.turn()
    assert all(len(rows) == 100 for rows in device.rows[10:])
    device.end()


def test_who_has_a_better_priority_does_not_sit_out() -> None:
    device = Device(1.5)
    for number in range(60):
        device.submit(number, "large", priority=-1)
    for number in (60, 61):
        device.submit(number, "small")
    for _ in range(50):
        device.turn()
    assert all(len(rows) == 62 for rows in device.rows[10:])
    device.end()
