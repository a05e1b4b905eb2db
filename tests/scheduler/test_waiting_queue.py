from __future__ import annotations

import random

import numpy as np
from sched_harness import limits_of, submit_of

from octavo.services.scheduler.request import Request
from octavo.services.scheduler.waiting import WaitingQueue


def request(number: int, priority: int = 0, arrival_time: float = 0.0, length: int = 1) -> Request:
    submit = submit_of(number, [1] * length, priority=priority, arrival_time=arrival_time)
    return Request.of(b"frontend-0", submit, number, limits_of())


def test_order_is_priority_then_arrival_then_number() -> None:
    wanted = [
        request(0, -1, 9.0),
        request(1, 0, 1.0),
        request(2, 0, 2.0),
        request(3, 0, 2.0),
        request(4, 1, 0.0),
    ]
    queue = WaitingQueue(lambda tenants: np.zeros((1, len(tenants))), lambda ages, _: ages)
    for one in random.Random(2).sample(wanted, len(wanted)):
        queue.add(one)
    found = []
    while (first := queue.first()) is not None:
        found.append(first)
        queue.discard(first)
    assert found == wanted


def test_discard_is_exact_and_forgiving() -> None:
    queue = WaitingQueue(lambda tenants: np.zeros((1, len(tenants))), lambda ages, _: ages)
    one, other = request(0), request(1)
    queue.add(one)
    queue.discard(other)
    assert len(queue) == 1
    queue.discard(one)
    queue.discard(one)
    assert len(queue) == 0
    assert queue.first() is None


def test_tokens_are_those_of_who_waits() -> None:
    queue = WaitingQueue(lambda tenants: np.zeros((1, len(tenants))), lambda ages, _: ages)
    one, other = request(0, length=5), request(1, length=7)
    queue.add(one)
    queue.add(other)
    assert queue.num_tokens == 12
    queue.extend(one, np.int32(9))
    assert (queue.num_tokens, one.token_ids.tolist()) == (13, [1, 1, 1, 1, 1, 9])
    assert one.token_ids.dtype == np.int32
    queue.discard(other)
    queue.discard(other)
    assert queue.num_tokens == 6
    queue.discard(one)
    assert queue.num_tokens == 0


def test_priorities_of_any_size_stay_in_bounds() -> None:
    assert request(0, priority=2**62).priority == 2**31 - 1
    assert request(0, priority=-(2**62)).priority == -(2**31 - 1)
