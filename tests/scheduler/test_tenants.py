"""Tenants share what there is; deadlines and bounds end what there is no room for."""

from __future__ import annotations

import numpy as np
from sched_harness import Harness, limits_of, submit_of

from octavo.services.scheduler.tenants import Tenants


def test_a_small_tenant_does_not_wait_for_a_large_one() -> None:
    """200 requests beside 2, in 8 slots: the two begin at once, and are not interrupted."""
    harness = Harness(limits_of(num_blocks=400, max_num_seqs=8, max_num_batched_tokens=64))
    for number in range(200):
        harness.submit(submit_of(number, [number % 40, 1], max_tokens=20, tenant="large"))
    for _ in range(10):
        harness.turn()
    for number in (200, 201):
        harness.submit(submit_of(number, [number % 40, 1], max_tokens=20, tenant="small"))
    for _ in range(26):
        harness.turn()
    assert all(harness.record(number).finished for number in (200, 201))
    harness.drain()


def test_two_that_want_all_get_half_each() -> None:
    harness = Harness(limits_of(num_blocks=400, max_num_seqs=8, max_num_batched_tokens=64))
    for number in range(100):
        harness.submit(submit_of(number, [number % 40, 1], max_tokens=8, tenant="first"))
    for number in range(100, 200):
        harness.submit(submit_of(number, [number % 40, 1], max_tokens=8, tenant="second"))
    for _ in range(100):
        harness.turn()
    done = [sum(harness.record(i).finished is not None for i in r) for r in PARTS]
    assert min(done) > 20 and max(done) <= 1.2 * min(done)
    harness.drain()
    assert not len(harness.life.tenants)


PARTS = (range(100), range(100, 200))


def test_priority_comes_before_fairness() -> None:
    harness = Harness(limits_of(max_num_seqs=1))
    for number in range(4):
        harness.submit(submit_of(number, [1], max_tokens=3, tenant="large", priority=0))
    harness.submit(submit_of(9, [1], max_tokens=3, tenant="small", priority=1))
    harness.drain()
    order = sorted(harness.records.values(), key=lambda one: one.finished_at)
    assert order[-1] is harness.record(9)


def test_a_tenant_that_comes_back_has_saved_nothing_up() -> None:
    tenants = Tenants(4)
    one, other = tenants.join("one"), tenants.join("other")
    tenants.leave(other)
    tenants.charge(np.array([one]), np.array([1000]))
    again = tenants.join("other")
    assert tenants.had(again) == tenants.had(one)
    tenants.charge(np.array([one, again]), np.array([3, 1]))
    assert tenants.had(one) - tenants.had(again) == 2


def test_what_is_past_its_deadline_ends_wherever_it_is() -> None:
    harness = Harness(limits_of(max_num_seqs=1))
    for number, deadline in enumerate((0.0, 0.05, 0.055, 5.0)):
        harness.submit(submit_of(number, [number, 1], max_tokens=30, deadline=deadline))
    for _ in range(12):
        harness.turn()
        harness.expire()
    errors = [one.finished and one.finished.error for one in harness.records.values()]
    assert errors == [None, "deadline_exceeded", "deadline_exceeded", None]
    assert not harness.record(1).token_ids
    harness.abort(0)
    for _ in range(12):
        harness.turn()
    harness.now = 5.0
    harness.expire()
    finished = harness.record(3).finished
    assert finished is not None and finished.error == "deadline_exceeded"
    assert harness.record(3).token_ids
    harness.drain()


def test_prompts_that_wait_are_bounded_by_their_tokens() -> None:
    harness = Harness(limits_of(max_num_seqs=1, max_queued_tokens=10))
    for number in range(4):
        harness.submit(submit_of(number, [number] * 6, max_tokens=2))
        harness.dispatch()
    errors = [one.finished and one.finished.error for one in harness.records.values()]
    assert errors == [None, None, "overloaded", "overloaded"]
    text = harness.scheduler.metrics_text().decode()
    assert 'reason="max_num_queued_tokens"} 2.0' in text
    harness.drain()
