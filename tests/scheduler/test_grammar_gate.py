from __future__ import annotations

from sched_fake_worker import FakeWorker
from sched_harness import PEER, Harness, here, limits_of, submit_of

from octavo.services.scheduler.engine import Engine
from octavo.services.scheduler.scheduler import Scheduler
from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.messages import ToFrontend, ToScheduler
from octavo.shared.steps import (
    DropGrammar,
    FromWorker,
    GrammarReady,
    PrepareGrammar,
    StepPlan,
    ToWorker,
)
from octavo.shared.transport import MemoryHub

A, B, C = (GrammarSpec("regex", letter) for letter in "abc")


def test_a_request_waits_for_its_grammar_and_others_do_not() -> None:
    harness = Harness(limits_of())
    harness.submit(submit_of(0, [1], grammar=A))
    harness.submit(submit_of(1, [2]))
    while harness.turn():
        pass
    assert harness.record(1).finished and not harness.record(0).token_ids
    assert harness.scheduler.stats().waiting == 1
    assert harness.compile()
    harness.drain()
    assert harness.record(0).finished


def test_one_grammar_is_prepared_once_and_kept_for_the_next() -> None:
    harness = Harness(limits_of())
    for number in range(3):
        harness.submit(submit_of(number, [number], grammar=A))
    assert len(harness.scheduler.take_orders()) == 1
    harness.worker.grammars[1] = A
    harness.preparing.append(1)
    harness.drain()
    harness.submit(submit_of(3, [3], grammar=A))
    assert harness.scheduler.take_orders() == []
    harness.drain()


def test_what_is_too_much_at_once_is_held_in_order() -> None:
    """Room is for two: the third comes in when one of them has ended."""
    harness = Harness(limits_of())
    for number, spec in enumerate((A, B, C, C)):
        harness.submit(submit_of(number, [number], grammar=spec))
    orders = harness.scheduler.take_orders()
    assert [order.spec for order in orders if isinstance(order, PrepareGrammar)] == [A, B]
    assert len(harness.life.gate) == 4
    harness.abort(0)
    orders = harness.scheduler.take_orders()
    assert isinstance(orders[0], DropGrammar) and orders[0].number == 1
    assert isinstance(orders[1], PrepareGrammar) and orders[1].spec == C
    harness.abort(1, 2, 3)
    assert len(harness.life.gate) == 0 and not harness.life.requests
    assert len(harness.life.gate._specs) == 0


def test_a_grammar_that_failed_is_not_used_again() -> None:
    harness = Harness(limits_of())
    for number in range(2):
        harness.submit(submit_of(number, [1], grammar=A))
        [prepared, *_] = harness.scheduler.take_orders()
        harness.scheduler.on_grammar(GrammarReady(rank=0, number=prepared.number, failed=True))
        harness._read(harness.scheduler.take_outputs())
        finished = harness.record(number).finished
        assert finished is not None and finished.error == "internal_error"
        assert isinstance(harness.scheduler.take_orders()[0], DropGrammar)


def test_every_rank_must_have_it() -> None:
    frontends: MemoryHub[ToFrontend, ToScheduler] = MemoryHub()
    workers: MemoryHub[ToWorker, FromWorker] = MemoryHub()
    scheduler = Scheduler(limits_of(), clock=lambda: 1.0)
    engine = Engine(scheduler, frontends, here(workers, 2), clock=lambda: 1.0)
    frontends.inbox.append((PEER, submit_of(0, [1], grammar=A)))
    engine.turn()
    assert [type(message) for _, message in workers.sent] == [PrepareGrammar] * 2
    worker = FakeWorker(num_blocks=32, block_size=4, max_num_seqs=4, vocab=50)
    worker.grammars[1] = A
    workers.sent.clear()
    workers.inbox.append((b"reports-0", GrammarReady(rank=0, number=1)))
    engine.turn()
    assert not workers.sent
    workers.inbox.append((b"reports-1", GrammarReady(rank=1, number=1)))
    engine.turn()
    assert {type(message) for _, message in workers.sent} == {StepPlan}
