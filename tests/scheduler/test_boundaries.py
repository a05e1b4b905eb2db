"""What goes wrong on behalf of one request is that request's error, wherever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sched_fake_worker import expected_output
from sched_harness import VOCAB, Harness, limits_of, request_id, submit_of

from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.keys import Quota
from octavo.shared.messages import Until, pack
from octavo.shared.steps import RowsRefused, StepFailed

BAD = 3
GRAMMAR = GrammarSpec("regex", "a+")


def is_bad(argument: object) -> bool:
    """Whether it is the request, or what was submitted of it, or its tenant's name or quota."""
    if isinstance(argument, Quota):
        return argument.name == "bad"
    return argument == "bad" or getattr(argument, "request_id", None) == request_id(BAD)


class Fault:
    """Wraps a method, which raises for the bad request: once, or always."""

    def __init__(self, owner: Any, name: str, once: bool) -> None:
        self._whole: Callable[..., Any] = getattr(owner, name)
        self._once = once
        self.struck = 0
        setattr(owner, name, self._call)

    def _call(self, *args: Any, **named: Any) -> Any:
        if any(is_bad(one) for one in args) and not (self._once and self.struck):
            self.struck += 1
            raise RuntimeError("injected")
        return self._whole(*args, **named)


OWNERS: dict[str, Callable[[Harness], Any]] = {
    "kv": lambda harness: harness.life.kv,
    "slots": lambda harness: harness.life.slots,
    "tenants": lambda harness: harness.life.tenants,
    "quotas": lambda harness: harness.life.quotas,
    "deadlines": lambda harness: harness.life.deadlines,
    "trials": lambda harness: harness.life.trials,
    "updater": lambda harness: harness.scheduler._updater,
    "bound": lambda harness: harness.scheduler._bound,
    "newcomers": lambda harness: harness.life.newcomers,
}


@pytest.mark.parametrize(
    "place",
    [
        "bound.refuses",
        "bound.make_room",
        "newcomers.add",
        "newcomers.begin",
        "quotas.refusal",
        "quotas.join",
        "tenants.join",
        "deadlines.add",
        "trials.must_wait",
        "kv.find",
        "kv.admit",
        "slots.occupy",
        "kv.grow",
        "kv.publish",
        "updater._start",
        "kv.publish_outputs",
    ],
)
@pytest.mark.parametrize("once", [True, False])
def test_one_request_s_trouble_is_its_own(place: str, once: bool) -> None:
    harness = Harness(limits_of(num_blocks=24, max_num_seqs=8))
    owner, name = place.split(".")
    fault = Fault(OWNERS[owner](harness), name, once)
    for number in range(8):
        whose = "bad" if number == BAD else "good"
        harness.submit(
            submit_of(
                number,
                [number, 1, 2],
                max_tokens=14,
                tenant=whose,
                quota=Quota(whose, max_concurrent=100),
                until=Until(end=1e9),
                grammar=GRAMMAR if number % 2 else None,
            )
        )
    harness.drain()
    for number in range(8):
        record = harness.record(number)
        assert record.finished is not None
        if number == BAD and fault.struck:
            assert record.finished.error in ("internal_error", None)
            continue
        expected = expected_output([number, 1, 2], record.submit.sampling, VOCAB, 64)
        assert (record.token_ids, record.finished.reason) == expected
    assert fault.struck


def test_a_grammar_that_comes_for_one_in_trouble() -> None:
    harness = Harness(limits_of())
    for number in (1, BAD):
        harness.submit(submit_of(number, [number], grammar=GRAMMAR))
    Fault(harness.life.waiting, "add", once=True)
    harness.drain()
    ends = [harness.record(number).finished for number in (1, BAD)]
    assert [end and end.error for end in ends] == [None, "internal_error"]


def test_a_failure_of_a_step_that_nobody_awaits_is_passed_over() -> None:
    """Such as one that an earlier scheduler asked for, or of which another rank has spoken."""
    harness = Harness(limits_of())
    for number in range(3):
        harness.submit(submit_of(number, [number, 1], max_tokens=9))
    harness.dispatch()
    harness.dispatch()
    step = harness.plans[0].step
    for stray in (-5, step - 1, step + 2):
        assert not harness.scheduler.fail(StepFailed(stray))
        harness.check()
        assert not harness.life.trials.active and not harness.life.trials.on_trial
    harness.drain()
    assert all(one.finished and not one.finished.error for one in harness.records.values())


def test_what_one_rank_cannot_take_in_ends_alone() -> None:
    """Before an id comes that it has spoilt. What is said of another plan's rows is passed over."""
    harness = Harness(limits_of())
    for number in range(3):
        harness.submit(submit_of(number, [number, 1], max_tokens=9))
    harness.dispatch()
    first = harness.plans[0]
    slots = pack([first.new_rows[1].slot])
    harness.scheduler.drop_refused(RowsRefused(first.step + 1, slots))
    assert len(harness.life.running) == 3
    harness.scheduler.drop_refused(RowsRefused(first.step, slots))
    harness.drain()
    ends = [harness.record(number).finished for number in range(3)]
    assert [end and end.error for end in ends] == [None, "internal_error", None]
    assert not harness.record(1).token_ids
