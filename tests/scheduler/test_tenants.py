"""Tenants share what there is; deadlines and bounds end what there is no room for."""

from __future__ import annotations

import numpy as np
from sched_harness import Harness, limits_of, submit_of

from octavo.services.scheduler.deadlines import Deadlines
from octavo.services.scheduler.request import Request
from octavo.services.scheduler.tenants import Tenants
from octavo.shared.messages import Until, pack


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


def test_who_gives_way_in_the_step_of_its_admission_is_not_in_it() -> None:
    harness = Harness(limits_of(max_num_seqs=2))
    for number in (0, 1):
        harness.submit(submit_of(number, [number, 1], max_tokens=3, tenant="first"))
    harness.submit(submit_of(2, [2, 1], max_tokens=3, tenant="second"))
    harness.life.tenants.charge(np.array([1]), np.array([9]), 0.0)
    plan = harness.scheduler.schedule()
    assert plan is not None
    assert len({row.slot for row in plan.new_rows}) == len(plan.new_rows) == 2
    assert [row.token_ids for row in plan.new_rows] == [pack([0, 1]), pack([2, 1])]


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
    tenants = Tenants(4, 4)
    one, other = tenants.join("one"), tenants.join("other")
    tenants.leave(other)
    tenants.charge(np.array([one]), np.array([1000]), 0.0)
    again = tenants.join("other")
    assert tenants.had(again) == tenants.had(one)
    tenants.charge(np.array([one, again]), np.array([3, 1]), 0.0)
    assert tenants.had(one) - tenants.had(again) == 2


def test_what_is_past_its_deadline_ends_wherever_it_is() -> None:
    harness = Harness(limits_of(max_num_seqs=1))
    for number, deadline in enumerate((0.0, 0.05, 0.055, 5.0)):
        harness.submit(submit_of(number, [number, 1], max_tokens=30, until=Until(end=deadline)))
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


def test_deadlines_for_the_queue_and_for_the_first_token() -> None:
    """They end who has not come so far, and nobody else."""
    harness = Harness(limits_of(max_num_seqs=1))
    soon = Until(queue=0.05, first_token=0.05)
    harness.submit(submit_of(0, [1] * 4, max_tokens=30, until=soon))
    harness.submit(submit_of(1, [1] * 4, max_tokens=3, until=Until(queue=0.05)))
    harness.submit(submit_of(2, [1] * 4, max_tokens=3, until=Until(first_token=0.05)))
    for _ in range(12):
        harness.turn()
        harness.expire()
    assert harness.record(0).finished is None and harness.record(0).token_ids
    ends = [harness.record(number).finished for number in (1, 2)]
    assert [end and end.error for end in ends] == ["deadline_exceeded"] * 2
    assert [end and end.message for end in ends] == [
        "The request waited too long in the queue.",
        "The request had no token by its deadline.",
    ]
    harness.drain()


def test_who_has_run_in_time_is_not_late_under_the_next_scheduler() -> None:
    """Frontends are told who runs, so that they do not ask for it again."""
    harness = Harness(limits_of(max_num_seqs=1))
    for number in range(3):
        until = Until(queue=0.05, first_token=0.1, end=9.0)
        harness.submit(submit_of(number, [1] * 4, max_tokens=6, until=until))
    harness.dispatch()
    harness.now = 0.06
    harness.lose_scheduler(late=False)
    harness.expire()
    ends = [harness.record(number).finished for number in range(3)]
    assert [end and end.message for end in ends] == [
        None,
        "The request waited too long in the queue.",
        "The request waited too long in the queue.",
    ]
    harness.turn()
    harness.turn()
    harness.lose_scheduler(late=False)
    harness.now = 1.0
    harness.expire()
    assert harness.record(0).finished is None and harness.record(0).token_ids
    harness.drain()


def test_deadlines_that_nobody_waits_for_any_more_take_no_room() -> None:
    """However many requests have come and gone behind one whose deadline is earlier."""
    deadlines, limits = Deadlines(), limits_of()
    stays = Request.of(b"", submit_of(0, [1]), 0, limits)
    deadlines.add(stays, Until(end=1.0))
    live = [stays]
    for number in range(1, 5000):
        request = Request.of(b"", submit_of(number, [1]), number, limits)
        deadlines.add(request, Until(queue=5.0 + number, end=9000.0 + number))
        live.append(request)
        if len(live) > 20:
            live.pop(1).over = True
        live[-1].cached_tokens = number % 2 or None
        assert len(deadlines) <= 2 * 2 * len(live) + 65
    assert deadlines.following() == 1.0
    found = [request for request, _ in deadlines.take_due(1e9)]
    assert set(found) == set(live)


def test_who_waits_long_gets_a_better_priority() -> None:
    """Requests of a better priority keep coming, two for each that can be served."""
    harness = Harness(limits_of(max_num_seqs=1, priority_ageing=0.2))
    harness.submit(submit_of(0, [1], max_tokens=2, priority=3, arrival_time=0.0))
    for number in range(1, 120):
        harness.submit(submit_of(number, [2], max_tokens=2, arrival_time=harness.now))
        harness.turn()
    harness.drain()
    order = sorted(harness.records.values(), key=lambda one: one.finished_at)
    assert 55 <= order.index(harness.record(0)) <= 65, "as if it had come 0.6 s later"


def test_ageing_does_not_undo_fairness() -> None:
    harness = Harness(limits_of(max_num_seqs=1, priority_ageing=0.1))
    for number in range(50):
        harness.submit(submit_of(number, [1], max_tokens=3, tenant="large", arrival_time=0.0))
    for _ in range(60):
        harness.turn()
    harness.submit(submit_of(99, [1], max_tokens=3, tenant="small", arrival_time=harness.now))
    before = harness.now
    for _ in range(14):
        harness.turn()
    assert harness.record(99).finished and harness.record(99).finished_at < before + 0.15
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
