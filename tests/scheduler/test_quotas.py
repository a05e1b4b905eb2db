"""What a key may have in a minute and at once."""

from __future__ import annotations

from sched_harness import Harness, limits_of, submit_of

from octavo.services.scheduler.quotas import Quotas
from octavo.shared.keys import Quota


def test_requests_per_minute_come_back_one_by_one() -> None:
    quotas, quota = Quotas(), Quota("a", requests_per_minute=6)
    now = 100.0
    for _ in range(6):
        assert quotas.refusal(quota, now) is None
        quotas.join(quota, 1, now)
    refusal = quotas.refusal(quota, now)
    assert refusal is not None and refusal.retry_after == 10
    assert "6 requests per minute" in refusal.message
    assert quotas.refusal(quota, now + 10.01) is None
    assert quotas.refusal(Quota("b", requests_per_minute=1), now) is None


def test_a_minute_without_requests_is_worth_no_more_than_a_minute() -> None:
    quotas, quota = Quotas(), Quota("a", requests_per_minute=2)
    quotas.join(quota, 1, 0.0)
    for _ in range(2):
        assert quotas.refusal(quota, 10_000.0) is None
        quotas.join(quota, 1, 10_000.0)
    assert quotas.refusal(quota, 10_000.0) is not None


def test_tokens_are_charged_when_they_are_known() -> None:
    quotas, quota = Quotas(), Quota("a", tokens_per_minute=60)
    quotas.join(quota, 20, 0.0)
    assert quotas.refusal(quota, 0.0) is None
    quotas.leave(quota, 100, 0.0)
    refusal = quotas.refusal(quota, 0.0)
    assert refusal is not None and refusal.retry_after == 61
    assert quotas.refusal(quota, 61.1) is None


def test_a_quota_may_change() -> None:
    quotas = Quotas()
    quotas.join(Quota("a", max_concurrent=1), 1, 0.0)
    assert quotas.refusal(Quota("a", max_concurrent=1), 0.0) is not None
    assert quotas.refusal(Quota("a", max_concurrent=2), 0.0) is None
    assert quotas.refusal(Quota("a"), 0.0) is None


def test_over_its_limit_a_request_is_refused_and_others_are_not() -> None:
    harness = Harness(limits_of())
    mine, other = Quota("mine", max_concurrent=2), Quota("other", max_concurrent=2)
    for number, quota in enumerate((mine, mine, mine, other)):
        harness.submit(submit_of(number, [1, 2], quota=quota))
    errors = [one.finished and one.finished.error for one in harness.records.values()]
    assert errors == [None, None, "rate_limited", None]
    harness.drain()
    harness.submit(submit_of(9, [1, 2], quota=mine))
    assert harness.record(9).finished is None
    assert (
        'code="rate_limited",engine="0",model_name="tiny"} 1.0'
        in harness.scheduler.metrics_text().decode()
    )
    harness.drain()


def test_what_goes_on_is_not_refused_and_not_charged_again() -> None:
    """The steps of a beam search, whatever else its key or the server has to do."""
    harness = Harness(limits_of(max_queued_requests=3))
    quota = Quota("a", requests_per_minute=1, tokens_per_minute=60, max_concurrent=1)
    harness.submit(submit_of(0, [1] * 50, max_tokens=1, quota=quota))
    harness.drain()
    for number in range(1, 9):
        harness.submit(submit_of(number, [1] * 51, max_tokens=1, quota=quota, goes_on=True))
    harness.submit(submit_of(9, [1], quota=quota))
    refused = harness.record(9).finished
    assert refused is not None and refused.error == "overloaded"
    harness.drain()
    ends = [harness.record(number).finished for number in range(9)]
    assert all(end and end.error is None for end in ends)
    harness.now += 60
    harness.submit(submit_of(10, [1], quota=quota))
    harness.drain()
    last = harness.record(10).finished
    assert last is not None and last.error is None, "one prompt and nine tokens are worth a minute"


def test_a_new_scheduler_does_not_refuse_what_the_last_one_took_in() -> None:
    harness = Harness(limits_of())
    harness.now = 50.0
    for number in range(3):
        harness.submit(submit_of(number, [1, 2], quota=Quota("a", max_concurrent=3)))
    for number in range(3):
        record = harness.record(number)
        record.submit.quota = Quota("a", max_concurrent=1)
    harness.turn()
    harness.lose_scheduler(late=False)
    harness.drain()
    ends = [harness.record(number).finished for number in range(3)]
    assert all(end and end.error is None for end in ends)


def test_a_heavier_tenant_gets_more() -> None:
    harness = Harness(limits_of(num_blocks=400, max_num_seqs=8, max_num_batched_tokens=64))
    for number in range(200):
        quota = Quota("light") if number < 100 else Quota("heavy", weight=3.0)
        prompt = [number % 40, 1]
        harness.submit(submit_of(number, prompt, max_tokens=8, tenant=quota.name, quota=quota))
    for _ in range(80):
        harness.turn()
    parts = (range(100), range(100, 200))
    light, heavy = (sum(bool(harness.record(i).finished) for i in part) for part in parts)
    assert 2.3 <= heavy / light <= 3.7
    harness.drain()
