"""When a refused request may come again: what waits, over how fast requests end."""

from __future__ import annotations

import pytest
from sched_harness import VOCAB, Harness, limits_of, submit_of

from octavo.services.scheduler.departures import Departures
from octavo.services.scheduler.quotas import Quotas
from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.keys import Quota


@pytest.mark.parametrize(
    ("ahead", "every", "seconds"), [(32, 0.25, 8), (32, 1.0, 32), (4000, 0.25, 60), (1, 0.01, 1)]
)
def test_as_many_have_to_end_as_wait(ahead: int, every: float, seconds: int) -> None:
    departures = Departures()
    departures.begin(100.0)
    for number in range(1, int(30 / every) + 1):
        departures.note(100.0 + number * every)
    assert departures.wait(ahead, 130.0) == pytest.approx(seconds, abs=1)


def test_only_the_last_seconds_count() -> None:
    """It was fast, and is slow now."""
    departures = Departures()
    departures.begin(0.0)
    for number in range(1, 1001):
        departures.note(number / 100)
    assert departures.wait(50, 10.0) == 1
    for second in range(11, 31):
        departures.note(float(second))
    assert departures.wait(50, 30.0) == pytest.approx(50, abs=5)


def test_where_nothing_has_ended_as_long_again() -> None:
    departures = Departures()
    departures.begin(100.0)
    assert departures.wait(9, 100.0) == 1
    assert departures.wait(9, 107.5) == 8
    departures.note(108.0)
    assert departures.wait(9, 138.0) == 30
    assert departures.wait(9, 300.0) == 60


def test_what_ended_before_anybody_waited_says_nothing() -> None:
    departures = Departures()
    departures.begin(0.0)
    departures.note(9.0)
    departures.begin(10.0)
    for number in range(1, 41):
        departures.note(10 + number * 0.05)
    assert departures.wait(100, 12.0) == 5


def full(**changes: int) -> Harness:
    """One slot; requests of 10 steps of 0.1 s, so one ends each second."""
    harness = Harness(limits_of(max_num_seqs=1, num_blocks=64, **changes))
    for number in range(8):
        harness.submit(submit_of(number, [number], max_tokens=10))
    for _ in range(40):
        harness.dispatch()
        harness.dispatch()
        harness.complete(0.1)
    harness.dispatch()
    return harness


def test_a_server_that_is_full_says_when_to_come_again() -> None:
    harness = full(max_queued_requests=8)
    for number in range(8, 13):
        harness.submit(submit_of(number, [1]))
    refused = harness.record(12).finished
    assert refused is not None and refused.error == "overloaded"
    assert harness.life.num_waiting == 7
    assert 6 <= refused.retry_after <= 8, "one ends each second, of seven that wait"
    harness.drain()


def test_a_request_without_memory_may_come_again_when_others_have_ended() -> None:
    harness = full()
    harness.fatal.add(VOCAB - 1)
    harness.submit(submit_of(8, [VOCAB - 1], priority=-1))
    while (refused := harness.record(8).finished) is None:
        harness.turn()
    assert refused.error == "out_of_memory" and 4 <= refused.retry_after <= 5
    harness.drain()


def test_a_key_waits_for_its_own_requests() -> None:
    quotas, quota = Quotas(), Quota("a", max_concurrent=2)
    quotas.join(quota, 1, 0.0)
    for second in (3.0, 6.0, 9.0):
        quotas.join(quota, 1, second)
        quotas.leave(quota, 1, second)
    quotas.join(quota, 1, 9.0)
    refusal = quotas.refusal(quota, 9.0)
    assert refusal is not None and refusal.retry_after == 3


@pytest.mark.parametrize("where", ["gate", "trial"])
def test_who_waits_elsewhere_is_in_the_queue_too(where: str) -> None:
    """At the grammar gate, or for a trial to end."""
    harness = Harness(limits_of(max_queued_tokens=10))
    if where == "trial":
        harness.submit(submit_of(0, [1]))
        harness.dispatch()
        harness.life.replay(list(harness.life.running.values()), died=False)
        assert harness.life.trials.active
    grammar = GrammarSpec("regex", "a") if where == "gate" else None
    for number in range(1, 4):
        harness.submit(submit_of(number, [number] * 6, grammar=grammar))
    ends = [one.finished and one.finished.error for one in harness.records.values()][-3:]
    assert ends == [None, "overloaded", "overloaded"]
