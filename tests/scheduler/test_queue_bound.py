"""A full queue: who is within its share of it gets in, at the cost of who is over its own."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sched_harness import PEER, QUICK, Harness, limits_of, submit_of

from octavo.services.scheduler.request import Request
from octavo.services.scheduler.scheduler import Scheduler
from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.keys import Quota
from octavo.shared.messages import Submit, Until


def crowded(tenant: str = "large", **changes: int) -> Harness:
    """One runs, five wait, and there is no room for more."""
    harness = Harness(limits_of(max_num_seqs=1, max_queued_requests=6, **changes))
    for number in range(6):
        harness.submit(submit_of(number, [number, 1], tenant=tenant))
        if not number:
            harness.turn()
    return harness


def ends(harness: Harness) -> list[str | None]:
    finished = (one.finished for one in harness.records.values())
    return [None if one is None else one.error for one in finished]


def refused(harness: Harness) -> list[int]:
    return [number for number, end in enumerate(ends(harness)) if end == "overloaded"]


def test_a_newcomer_takes_the_place_of_the_last_of_who_has_most() -> None:
    harness = crowded()
    for number in range(6, 12):
        harness.submit(submit_of(number, [number, 1], tenant="small"))
        harness.check()
    assert refused(harness) == [3, 4, 5, 9, 10, 11], "three each"
    text = harness.scheduler.metrics_text().decode()
    assert 'reason="max_num_queued_reqs"} 6.0' in text
    assert 'octavo:displaced_requests_total{engine="0",model_name="tiny"} 3.0' in text
    assert 'octavo:request_errors_total{code="overloaded",engine="0",model_name="tiny"} 6.0' in text
    harness.drain()
    assert 'finished_reason="error",model_name="tiny"} 0.0' in text
    assert not len(harness.life.tenants)


def test_who_has_lost_what_it_had_too_much_does_not_take_it_back() -> None:
    harness = crowded()
    for number in range(6, 9):
        harness.submit(submit_of(number, [number, 1], tenant="small"))
    for number in range(9, 12):
        harness.submit(submit_of(number, [number, 1], tenant="large"))
    assert refused(harness) == [3, 4, 5, 9, 10, 11]
    harness.drain()


def test_alone_nothing_makes_room() -> None:
    harness = crowded()
    harness.submit(submit_of(6, [6], tenant="large", priority=-5))
    assert refused(harness) == [6]
    harness.drain()


def test_both_are_told_when_to_come_again() -> None:
    harness = crowded()
    harness.submit(submit_of(6, [6], tenant="large"))
    harness.submit(submit_of(7, [7], tenant="small"))
    late, displaced = harness.record(6).finished, harness.record(5).finished
    assert late is not None and displaced is not None
    assert (late.error, late.message) == (displaced.error, displaced.message)
    assert displaced.retry_after == late.retry_after >= 1
    harness.drain()


@pytest.mark.parametrize(("weight", "taken"), [(1.0, 3), (2.0, 4), (0.5, 2), (0.01, 1)])
def test_shares_are_as_the_weights(weight: float, taken: int) -> None:
    harness = crowded()
    quota = Quota("small", weight=weight)
    for number in range(6, 12):
        harness.submit(submit_of(number, [number], tenant="small", quota=quota))
    assert refused(harness) == [*range(6 - taken, 6), *range(6 + taken, 12)]
    harness.drain()


def test_the_lowest_priority_goes_first_and_then_the_newest() -> None:
    harness = Harness(limits_of(max_num_seqs=1, max_queued_requests=6))
    for number, priority in enumerate((0, 2, 2, 0, 1, 0)):
        harness.submit(submit_of(number, [number], tenant="large", priority=priority))
    for number, gone in zip((6, 7, 8), ([2], [1, 2], [1, 2, 4]), strict=True):
        harness.submit(submit_of(number, [number], tenant="small", priority=9))
        assert refused(harness) == gone
    harness.drain()


def test_who_is_most_over_its_share_gives_way() -> None:
    harness = Harness(limits_of(max_num_seqs=1, max_queued_requests=8))
    for number, tenant in enumerate("aaabbbbb"):
        quota = Quota(tenant, weight=4.0 if tenant == "b" else 1.0)
        harness.submit(submit_of(number, [number], tenant=tenant, quota=quota))
    harness.submit(submit_of(8, [8], tenant="c"))
    assert refused(harness) == [2], "three where one and a third are due, beside five of five"
    harness.drain()


def test_who_has_begun_keeps_its_place() -> None:
    """Also where it waits again."""
    harness = Harness(limits_of(max_num_seqs=2, max_queued_requests=2))
    for number in range(2):
        harness.submit(submit_of(number, [number], max_tokens=20, tenant="large"))
    harness.turn()
    harness.life.preempt(harness.life.running[1])
    harness.check()
    harness.submit(submit_of(2, [2], tenant="small"))
    assert refused(harness) == [2]
    harness.drain()


def test_what_an_earlier_scheduler_took_in_keeps_its_place() -> None:
    harness = crowded()
    harness.now = 7.0
    harness.lose_scheduler(late=False)
    harness.submit(submit_of(8, [8], tenant="small"))
    assert harness.record(8).finished and not harness.record(5).finished
    harness.drain()
    assert [one for one in ends(harness) if one] == ["overloaded"]


def test_what_goes_on_keeps_its_place() -> None:
    harness = Harness(limits_of(max_num_seqs=1, max_queued_requests=4))
    for number in range(4):
        harness.submit(submit_of(number, [number], tenant="large", goes_on=True))
    harness.submit(submit_of(4, [4], tenant="small"))
    assert refused(harness) == [4]
    harness.drain()


def test_who_waits_for_a_trial_keeps_its_place() -> None:
    harness = crowded()
    harness.life.replay(list(harness.life.running.values()), died=False)
    assert harness.life.trials.active
    harness.submit(submit_of(6, [6], tenant="small"))
    assert refused(harness) == [6]


def test_who_waits_for_its_grammar_makes_room() -> None:
    harness = Harness(limits_of(max_num_seqs=1, max_queued_requests=3))
    for number in range(3):
        grammar = GrammarSpec("regex", "abc"[number])
        harness.submit(submit_of(number, [number], tenant="large", grammar=grammar))
    harness.carry_out()
    harness.submit(submit_of(3, [3], tenant="small"))
    harness.check()
    assert refused(harness) == [2] and len(harness.gated()) == 2
    harness.drain()
    assert ends(harness) == [None, None, "overloaded", None]


def test_sequences_of_one_request_stand_or_fall_together() -> None:
    """The last two are one request: one answer, so neither is worked on in vain."""
    harness = Harness(limits_of(max_num_seqs=1, max_queued_requests=6))
    for number in range(6):
        family = b"family" if number > 3 else b""
        harness.submit(submit_of(number, [number], tenant="large", family=family, parent=family))
    harness.submit(submit_of(6, [6], tenant="small"))
    harness.check()
    assert refused(harness) == [4, 5]
    harness.drain()
    assert not harness.life.newcomers._families and not harness.life.metrics._siblings._families


def test_a_request_of_which_a_part_has_begun_keeps_all_its_places() -> None:
    harness = Harness(limits_of(max_num_seqs=1, max_queued_requests=4))
    for number in range(3):
        harness.submit(submit_of(number, [number], tenant="large", family=b"family"))
    harness.turn()
    harness.submit(submit_of(3, [3], tenant="large", family=b"family"))
    harness.check()
    harness.submit(submit_of(4, [4], tenant="small"))
    assert refused(harness) == [4]
    harness.drain()


def test_choices_that_are_not_all_within_the_share_displace_nobody() -> None:
    harness = crowded()
    harness.submit(submit_of(6, [6], tenant="small", num_choices=4))
    assert refused(harness) == [6]
    harness.drain()


def test_tokens_have_shares_too() -> None:
    """Ten of the larger prompts' tokens are one too many: it takes two requests to make room."""
    harness = Harness(limits_of(max_num_seqs=1, max_queued_tokens=20))
    for number in range(4):
        harness.submit(submit_of(number, [number] * 5, tenant="large"))
    harness.submit(submit_of(4, [4] * 11, tenant="small"))
    assert refused(harness) == [4], "more than its share"
    harness.submit(submit_of(5, [5] * 9, tenant="small"))
    harness.check()
    assert refused(harness) == [2, 3, 4]
    text = harness.scheduler.metrics_text().decode()
    assert 'reason="max_num_queued_tokens"} 3.0' in text
    harness.drain()


def test_nobody_is_displaced_where_it_would_not_be_enough() -> None:
    """What has begun and waits again holds most of the tokens."""
    harness = Harness(limits_of(max_num_seqs=2, max_queued_tokens=20))
    harness.submit(submit_of(0, [0] * 14, max_tokens=20, tenant="large"))
    harness.turn()
    harness.life.preempt(harness.life.running[0])
    harness.submit(submit_of(1, [1] * 4, tenant="large"))
    harness.submit(submit_of(2, [2] * 10, tenant="small"))
    assert refused(harness) == [2]
    harness.drain()


@pytest.mark.parametrize(
    "flaw", [{"quota": Quota("small", max_concurrent=0)}, {"max_tokens": 1, "ids": [1] * 70}]
)
def test_who_is_refused_for_another_reason_displaces_nobody(flaw: dict[str, object]) -> None:
    harness = crowded()
    ids = flaw.pop("ids", [6])
    harness.submit(submit_of(6, ids, tenant="small", **flaw))  # type: ignore[arg-type]
    assert [one for one in ends(harness) if one] in (["rate_limited"], ["too_long"])
    harness.drain()


def test_a_key_does_not_pay_for_what_was_displaced() -> None:
    harness = Harness(limits_of(max_num_seqs=1, max_queued_requests=2))
    quota = Quota("large", requests_per_minute=2, tokens_per_minute=60, max_concurrent=2)
    for number, length in ((0, 2), (1, 50)):
        ids = [number] * length
        harness.submit(submit_of(number, ids, tenant="large", quota=quota, until=Until(end=9.0)))
    harness.submit(submit_of(2, [2], tenant="small"))
    assert refused(harness) == [1]
    assert harness.life.quotas.refusal(quota, harness.now) is None
    harness.drain()
    harness.now = 10.0
    harness.expire()
    assert ends(harness) == [None, "overloaded", None]
    assert harness.life.quotas._accounts["large"].live == 0


def test_a_place_that_is_taken_over_is_no_end() -> None:
    """By the pace of ends clients are told when to come again."""
    harness = crowded()
    before = len(harness.life.departures._times)
    harness.submit(submit_of(6, [6], tenant="small"))
    assert refused(harness) == [5] and len(harness.life.departures._times) == before
    harness.drain()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["submit", "submit", "submit", "turn", "dispatch", "compile", "abort"]),
        st.sampled_from("abc"),
        st.integers(1, 12),
        st.integers(0, 2),
        st.sampled_from([None, None, *(GrammarSpec("regex", letter) for letter in "ab")]),
        st.integers(1, 3),
    ),
    max_size=60,
)
WEIGHTS = {"a": 1.0, "b": 2.0, "c": 0.5}
BOUND = {"max_queued_requests": st.integers(1, 12), "max_queued_tokens": st.integers(4, 60)}


@QUICK
@given(STEPS, st.fixed_dictionaries(BOUND), st.integers(1, 3))
def test_whatever_comes_the_bounds_and_the_shares_hold(
    steps: list[tuple[str, str, int, int, GrammarSpec | None, int]],
    bounds: dict[str, int],
    slots: int,
) -> None:
    harness = Harness(limits_of(max_num_seqs=slots, **bounds))
    number = 0
    for kind, tenant, length, priority, grammar, size in steps:
        if kind != "submit":
            act(harness, kind, length)
            continue
        family = b"family-%d" % number if size > 1 else b""
        quota = Quota(tenant, weight=WEIGHTS[tenant])
        for _ in range(size):
            fields = {"tenant": tenant, "quota": quota, "family": family, "grammar": grammar}
            check_arrival(harness, number, length, {**fields, "priority": priority})
            number += 1
    harness.drain()
    assert not len(harness.life.tenants)
    assert not harness.life.newcomers._lines and not harness.life.newcomers._families
    assert not harness.life.backlog.num_tokens


def act(harness: Harness, kind: str, number: int) -> None:
    if kind == "abort":
        harness.abort(*range(number, number + 2))
    else:
        getattr(harness, kind)()


def check_arrival(harness: Harness, number: int, length: int, fields: dict[str, object]) -> None:
    """It gets in, or nothing could have been done for it; and nobody ends without cause."""
    life, limits = harness.life, harness.limits
    before = {one.request_id for one in life.requests.values()}
    fresh = {one.request_id for one in harness.newcomers()}
    tokens = life.backlog.num_tokens
    free = len(before) < limits.max_queued_requests
    free &= not tokens or tokens + length <= limits.max_queued_tokens
    placed = can_be_placed(harness, str(fields["tenant"]), length)
    harness.submit(submit_of(number, [number % 50] * length, max_tokens=3, **fields))
    harness.check()
    assert len(life.requests) <= limits.max_queued_requests
    submit = harness.record(number).submit
    gone = before - {one.request_id for one in life.requests.values()}
    taken = submit.request_id in life.requests
    assert taken == placed
    assert gone <= fresh and bool(gone) == (taken and not free)
    others = life.backlog.num_tokens - length
    assert not taken or not others or others + length <= limits.max_queued_tokens


def can_be_placed(harness: Harness, tenant: str, length: int) -> bool:
    """Whether it is within its share, and others have enough to give up: counted one by one."""
    life, limits = harness.life, harness.limits
    lacking = len(life.requests) + 1 - limits.max_queued_requests
    sizes = dict.fromkeys(life.requests.values(), 1)
    if not gives_up(harness, tenant, 1, limits.max_queued_requests, sizes, lacking):
        return False
    waiting = {one: len(one.token_ids) * (one.slot < 0) for one in life.requests.values()}
    lacking = sum(waiting.values()) + length - limits.max_queued_tokens
    lacking *= any(waiting.values())
    return gives_up(harness, tenant, length, limits.max_queued_tokens, waiting, lacking)


def gives_up(
    harness: Harness, tenant: str, own: int, bound: int, sizes: dict[Request, int], lacking: int
) -> bool:
    tenants, newcomers = harness.life.tenants, harness.newcomers()
    names = {tenant, *(tenants.name(one.tenant) for one in sizes)}
    found = 0
    for name in names:
        share = max(int(bound * WEIGHTS[name] / sum(map(WEIGHTS.__getitem__, names))), 1)
        mine = [one for one in sizes if tenants.name(one.tenant) == name]
        had = sum(sizes[one] for one in mine)
        if name == tenant and lacking > 0 and had + own > share:
            return False
        found += max(min(had - share, sum(sizes[one] for one in mine if one in newcomers)), 0)
    return found >= lacking


def test_a_full_queue_makes_arrivals_no_dearer_than_an_empty_one() -> None:
    """Of four thousand, each displaces one; nothing is looked through for it."""
    limits = limits_of(max_num_seqs=1, num_blocks=40, max_queued_requests=4000)
    scheduler = Harness(limits).scheduler
    grammars = [None, *(GrammarSpec("regex", letter) for letter in "abc")]
    crowd = [
        submit_of(number, [1], tenant="large", grammar=grammars[number % 4])
        for number in range(4000)
    ]
    others = [submit_of(number, [1], tenant="small") for number in range(4000, 8000)]
    first, second, third = (
        seconds(scheduler, part) for part in (crowd, others[:2000], others[2000:])
    )
    assert scheduler.metrics.own.counts("displaced_requests") == {"": 2000}
    assert len(scheduler._life.requests) == 4000
    assert second / 2000 < 10 * first / 4000 and third < second


def seconds(scheduler: Scheduler, submits: list[Submit]) -> float:
    """Of this thread, to take them in or refuse them."""
    began = time.thread_time()
    for submit in submits:
        scheduler.add(PEER, submit)
    return time.thread_time() - began
