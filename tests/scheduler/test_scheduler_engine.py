"""The engine's loop over in-memory hubs."""

from __future__ import annotations

import re
import time
from pathlib import Path

from msgspec.structs import replace
from sched_fake_worker import FakeWorker, expected_output
from sched_harness import VOCAB, here, limits_of, request_id, submit_of

from octavo.services.scheduler.engine import MESSAGES_PER_TURN, Engine
from octavo.services.scheduler.scheduler import Scheduler
from octavo.services.scheduler.worker_group import Joined
from octavo.shared.messages import (
    Abort,
    EngineStats,
    Hello,
    Outputs,
    PageQuery,
    PageText,
    ToFrontend,
    ToScheduler,
    pack,
    unpack,
)
from octavo.shared.steps import (
    Adopt,
    FromWorker,
    StepFailed,
    StepPlan,
    StepResult,
    Stop,
    ToWorker,
    WorkerReady,
)
from octavo.shared.transport import Hub, MemoryHub, Spoke

ONE, TWO = b"frontend-0", b"frontend-1"
LIMITS = limits_of()


class World:
    """An engine, its hubs, and a hand-cranked worker behind rank 0."""

    def __init__(self, num_ranks: int = 1) -> None:
        self.now = 100.0
        self.frontends: MemoryHub[ToFrontend, ToScheduler] = MemoryHub()
        self.workers: MemoryHub[ToWorker, FromWorker] = MemoryHub()
        self.group = here(self.workers, num_ranks)
        scheduler = Scheduler(LIMITS, clock=lambda: self.now)
        self.engine = Engine(scheduler, self.frontends, self.group, clock=lambda: self.now)
        self.worker = FakeWorker(num_blocks=32, block_size=4, max_num_seqs=4, vocab=VOCAB)

    def say(self, peer: bytes, message: ToScheduler) -> None:
        self.frontends.inbox.append((peer, message))

    def plans(self) -> int:
        """How many rank 0 was sent, and has not run."""
        return sum(peer == b"rank-0" for peer, _ in self.workers.sent)

    def work(self, seconds: float = 0.0) -> int:
        """Run the plans that rank 0 was sent; returns how many."""
        plans = [plan for peer, plan in self.workers.sent if peer == b"rank-0"]
        self.workers.sent.clear()
        for plan in plans:
            assert isinstance(plan, StepPlan)
            result = replace(self.worker.run(plan), forward_seconds=seconds)
            self.workers.inbox.append((b"rank-0", result))
            self.now += seconds
        return len(plans)

    def heard(self, kind: type) -> list[tuple[bytes, object]]:
        return [item for item in self.frontends.sent if isinstance(item[1], kind)]


def test_a_page_does_not_wait_behind_thousands_of_requests(tmp_path: Path) -> None:
    """Peers take turns in the hub: a scrape is answered in the turn that finds it, whatever others
    have sent before."""
    world = World()
    hub: Hub[ToFrontend, ToScheduler] = Hub(tmp_path, "x", ToScheduler)
    scheduler = Scheduler(LIMITS, clock=lambda: world.now)
    engine = Engine(scheduler, hub, world.group, clock=lambda: world.now)
    busy: Spoke[ToScheduler, ToFrontend] = Spoke(tmp_path, "x", ONE, ToFrontend)
    scraping: Spoke[ToScheduler, ToFrontend] = Spoke(tmp_path, "x", b"exporter-0", ToFrontend)
    for number in range(3000):
        busy.send(submit_of(number, [1, 2, 3]))
    engine.turn()
    scraping.send(PageQuery(query_id=5))
    time.sleep(0.3)  # on its way through the sockets' own threads
    assert engine.turn() == 0.0, "more is waiting"
    answer = scraping.receive(5)
    assert isinstance(answer, PageText) and answer.query_id == 5
    for channel in (busy, scraping, hub):
        channel.close()


def test_a_request_goes_through() -> None:
    world = World()
    submit = submit_of(0, [1, 2, 3])
    world.say(ONE, submit)
    for _ in range(10):
        world.engine.turn()
        world.work()
    outputs = [message for _, message in world.heard(Outputs)]
    ids = [
        token
        for one in outputs
        if isinstance(one, Outputs)
        for token in unpack(one.token_ids).tolist()
    ]
    assert ids == expected_output([1, 2, 3], submit.sampling, VOCAB, 64)[0]
    last = outputs[-1]
    assert isinstance(last, Outputs) and last.finished[0].reason == "length"


def test_never_more_than_two_steps_in_flight() -> None:
    world = World()
    world.say(ONE, submit_of(0, [1], max_tokens=20))
    world.engine.turn()
    world.engine.turn()
    assert len(world.workers.sent) == 2
    world.work()
    world.workers.inbox.pop()
    world.engine.turn()
    assert len(world.workers.sent) == 1, "one came back, one more goes"


def test_every_rank_gets_the_plan_and_the_stop() -> None:
    world = World(num_ranks=2)
    world.say(ONE, submit_of(0, [1], max_tokens=1))
    world.engine.turn()
    world.group.stop()
    sent = [(peer, type(message)) for peer, message in world.workers.sent]
    assert sent == [
        (b"rank-0", StepPlan),
        (b"rank-1", StepPlan),
        (b"rank-0", Stop),
        (b"rank-1", Stop),
    ]


def test_the_group_is_ready_with_its_smallest_rank() -> None:
    world = World(num_ranks=2)
    world.workers.inbox.append((b"rank-1", WorkerReady(rank=1, num_blocks=7, epoch=2)))
    assert world.group.receive() is None and not world.group.present
    world.workers.inbox.append((b"rank-0", WorkerReady(rank=0, num_blocks=9, epoch=2)))
    assert world.group.receive() == Joined(7) and world.group.present
    assert [type(message) for _, message in world.workers.sent] == [Adopt, Adopt]


def test_other_messages_of_workers_are_passed_over() -> None:
    world = World()
    result = StepResult(step=1, token_ids=pack([]))
    world.workers.inbox += [(b"rank-0", WorkerReady(rank=0, num_blocks=1)), (b"rank-0", result)]
    assert world.group.receive() is result
    assert world.group.receive() is None


def test_abort_is_answered_at_once() -> None:
    world = World()
    world.say(ONE, submit_of(0, [1]))
    world.engine.turn()
    world.say(ONE, Abort(request_ids=[request_id(0), request_id(1)]))
    world.engine.turn()
    ((_, outputs),) = world.heard(Outputs)
    assert isinstance(outputs, Outputs)
    assert [(one.request_id, one.reason) for one in outputs.finished] == [(request_id(0), "abort")]


def test_metrics_are_answered() -> None:
    world = World()
    world.workers.num_malformed = 3
    world.say(TWO, PageQuery(query_id=5))
    world.engine.turn()
    ((peer, text),) = world.heard(PageText)
    assert isinstance(text, PageText)
    assert (peer, text.query_id) == (TWO, 5)
    assert b"vllm:num_requests_running" in text.text
    dropped = rb'^octavo:malformed_frames_total\{.*socket="(.*)"\} (\S+)$'
    found = re.findall(dropped, text.text, re.M)
    assert found == [(b"frontends", b"0.0"), (b"workers", b"3.0")]


def test_stats_come_twice_a_second_and_when_work_begins_or_ends() -> None:
    world = World()
    world.say(ONE, Hello())
    world.say(TWO, Hello())

    def stats_of_turn() -> list[object]:
        world.frontends.sent.clear()
        world.engine.turn()
        return [stats for peer, stats in world.heard(EngineStats) if peer == ONE]

    assert stats_of_turn(), "the answer to Hello, and the first heartbeat"
    assert not stats_of_turn()
    world.now += 1.0
    assert len(stats_of_turn()) == 1
    assert len(world.heard(EngineStats)) == 2
    world.say(ONE, submit_of(0, [1], max_tokens=1))
    (begin,) = stats_of_turn()
    assert isinstance(begin, EngineStats) and begin.running == 1
    assert not stats_of_turn()
    world.work()
    (end,) = stats_of_turn()
    assert isinstance(end, EngineStats)
    assert (end.running, end.blocks_used, end.step) == (0, 0, 1)


def test_a_turn_says_how_long_to_sleep() -> None:
    world = World()
    assert world.engine.turn() == 0.5
    world.now += 0.125
    assert world.engine.turn() == 0.375


def test_a_flood_of_messages_is_taken_in_portions() -> None:
    world = World()
    for _ in range(MESSAGES_PER_TURN + 1):
        world.say(ONE, Abort(request_ids=[]))
    assert world.engine.turn() == 0.0
    assert len(world.frontends.inbox) == 1
    assert world.engine.turn() > 0.0


def test_without_workers_requests_wait() -> None:
    world = World()
    world.say(ONE, Hello())
    world.say(ONE, submit_of(0, [1, 2, 3]))
    world.engine.turn()
    world.engine.lost_workers()
    world.workers.sent.clear()
    world.say(ONE, submit_of(1, [1]))
    world.engine.turn()
    stats = world.heard(EngineStats)[-1][1]
    assert isinstance(stats, EngineStats) and stats.degraded
    assert not world.workers.sent
    world.workers.inbox.append((b"rank-0", WorkerReady(rank=0, num_blocks=32, epoch=2)))
    world.engine.turn()
    kinds = [type(message) for _, message in world.workers.sent]
    assert kinds == [Adopt, StepPlan, StepPlan]
    stats = world.heard(EngineStats)[-1][1]
    assert isinstance(stats, EngineStats) and not stats.degraded


def test_a_sign_of_life_changes_nothing() -> None:
    world = World()
    world.say(ONE, submit_of(0, [1, 2, 3]))
    world.engine.turn()
    world.workers.sent.clear()
    world.workers.inbox.append((b"rank-0", WorkerReady(rank=0, num_blocks=32, epoch=1)))
    world.engine.turn()
    assert all(isinstance(message, StepPlan) for _, message in world.workers.sent)


def test_a_frontend_that_is_lost_frees_its_requests() -> None:
    world = World()
    for peer in (ONE, TWO):
        world.say(peer, Hello())
    world.say(ONE, submit_of(0, [1]))
    world.say(TWO, submit_of(1, [1]))
    world.engine.turn()
    world.engine.lost_frontend(ONE)
    world.engine.turn()
    world.say(ONE, submit_of(2, [1]))  # what was in the socket when the news came
    world.say(ONE, Hello())
    world.engine.turn()
    stats = world.engine._stats()
    assert stats.running + stats.waiting == 1
    world.frontends.sent.clear()
    world.now += 1.0
    world.engine.turn()
    assert {peer for peer, _ in world.heard(EngineStats)} == {TWO}


def test_the_next_plan_goes_out_shortly_before_the_step_ends() -> None:
    """So whoever comes while a step runs has only that one to wait for."""
    world = World()
    world.say(ONE, submit_of(0, [1, 2, 3], max_tokens=40))
    for _ in range(6):
        world.engine.turn()
        world.work(seconds=0.02)
    assert world.engine.turn() <= 0.02 and world.plans() == 1
    world.say(ONE, submit_of(1, [4, 5, 6]))
    world.now += 0.016
    world.engine.turn()
    assert world.plans() == 1, "the step has 4 ms to go"
    world.now += 0.001
    world.engine.turn()
    assert world.plans() == 2
    _, plan = world.workers.sent[-1]
    assert isinstance(plan, StepPlan) and len(plan.new_rows) == 1


def fail_newest(world: World, rank: int) -> None:
    """A rank has no memory for the last of the plans that went out."""
    plan = next(one for _, one in reversed(world.workers.sent) if isinstance(one, StepPlan))
    world.workers.inbox.append((b"rank-%d" % rank, StepFailed(plan.step, memory=True)))


def test_of_several_ranks_one_without_memory_ends_the_group() -> None:
    """No plan goes to those who are left; the step that failed is on trial, once, for memory."""
    world = World(num_ranks=2)
    for number in range(3):
        world.say(ONE, submit_of(number, [number, 5, 6]))
    world.engine.turn()
    fail_newest(world, rank=1)
    fail_newest(world, rank=0)
    world.workers.sent.clear()
    world.engine.turn()
    assert not world.group.present and not world.workers.sent
    text = world.engine._scheduler.metrics_text()
    assert re.search(rb"^octavo:failed_steps_total\S* 1(\.0)?$", text, re.M)
    world.engine.lost_workers()
    for rank in range(2):
        ready = WorkerReady(rank=rank, num_blocks=32, epoch=2)
        world.workers.inbox.append((b"rank-%d" % rank, ready))
    world.engine.turn()
    plans = [one for _, one in world.workers.sent if isinstance(one, StepPlan)]
    assert [len(plan.new_rows) for plan in plans if plan.new_rows] == [1, 1], "one, on each rank"
    assert isinstance(plans[-1], StepPlan)
    fail_newest(world, rank=0)
    world.engine.turn()
    (finished,) = [
        one for _, message in world.heard(Outputs) for one in getattr(message, "finished", [])
    ]
    assert finished.error == "out_of_memory"


def test_a_failure_of_a_plan_that_is_no_more_changes_nothing() -> None:
    world = World()
    world.say(ONE, submit_of(0, [1, 2, 3]))
    world.engine.turn()
    world.workers.sent.clear()
    world.workers.inbox.append((b"rank-0", StepFailed(10**9, memory=True)))
    world.engine.turn()
    assert world.group.present
    assert all(isinstance(message, StepPlan) for _, message in world.workers.sent)


def stalled(world: World) -> bool:
    """What the frontends were told last."""
    stats = world.heard(EngineStats)[-1][1]
    assert isinstance(stats, EngineStats)
    return stats.stalled


def test_a_step_that_does_not_end_is_told_in_time() -> None:
    world = World()
    world.say(ONE, Hello())
    world.say(ONE, submit_of(0, [1, 2, 3], max_tokens=40))
    for _ in range(6):
        world.engine.turn()
        world.work(seconds=0.02)
    began, wait = world.now, world.engine.turn()
    while not stalled(world):
        world.now += wait
        wait = world.engine.turn()
    assert 1.0 < world.now - began < 1.5 and world.engine.gets_on
    world.work(seconds=0.02)
    world.engine.turn()
    assert not stalled(world), "at once"


def test_a_lost_result_is_this_schedulers_trouble() -> None:
    """Once the workers would have been killed, had it been theirs."""
    world = World()
    world.say(ONE, submit_of(0, [1, 2, 3], max_tokens=40))
    world.engine.turn()
    for _ in range(60):
        assert world.engine.gets_on
        world.now += 0.5
        world.engine.turn()
    world.now += 0.5
    world.engine.turn()
    assert not world.engine.gets_on
    world.engine.lost_workers()
    world.engine.turn()
    assert world.engine.gets_on and not world.engine._stats().stalled


def test_a_freeze_of_everything_is_no_stall() -> None:
    world = World()
    world.say(ONE, Hello())
    world.say(ONE, submit_of(0, [1, 2, 3], max_tokens=40))
    for _ in range(6):
        world.engine.turn()
        world.work(seconds=0.02)
    world.engine.turn()
    world.now += 600.0
    world.engine.turn()
    assert world.engine.gets_on and not stalled(world)
