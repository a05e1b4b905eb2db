"""Drives a Scheduler against the fake worker, and checks its books after every operation."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Set
from dataclasses import dataclass, field

import msgspec
import numpy as np
from hypothesis import HealthCheck, settings
from sched_fake_worker import FakeWorker, StepFails

from octavo.services.scheduler.block_map import CACHED, FREE, MAX_CELLS, SHARED
from octavo.services.scheduler.grammar_gate import GrammarGate
from octavo.services.scheduler.limits import Limits
from octavo.services.scheduler.prefill_share import prefill_share
from octavo.services.scheduler.request import Request
from octavo.services.scheduler.scheduler import Scheduler
from octavo.services.scheduler.worker_group import Joined, WorkerGroup
from octavo.shared.messages import (
    FURTHER,
    NOT_BEGUN,
    Begun,
    Finished,
    Outputs,
    Submit,
    pack,
    unpack,
    unpack_floats,
)
from octavo.shared.process import Trial
from octavo.shared.sampling import SamplingParams
from octavo.shared.steps import (
    FromWorker,
    GrammarReady,
    PrepareGrammar,
    StepFailed,
    StepPlan,
    StepResult,
    ToWorker,
    WorkerReady,
    first_number,
)
from octavo.shared.transport import MemoryHub

QUICK = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
VOCAB = 50
PEER = b"frontend-0"


def limits_of(**changes: int | bool | float) -> Limits:
    values: dict[str, int | bool | float] = {
        "num_blocks": 32,
        "block_size": 4,
        "max_model_len": 64,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 16,
        "vocab_size": VOCAB,
    }
    return Limits(**(values | changes))  # type: ignore[arg-type]


def request_id(number: int) -> bytes:
    """Ends in zero bytes on purpose: ids are not C strings."""
    return number.to_bytes(8, "big") + bytes(8)


def submit_of(number: int, prompt: list[int], **fields: object) -> Submit:
    """Fields of Submit by their names; everything else goes to SamplingParams."""
    names = (
        *("priority", "cache_salt", "num_choices", "pooling"),
        *("tenant", "until", "quota", "parent", "goes_on", "family"),
    )
    own = {name: fields.pop(name) for name in names if name in fields}
    arrival = fields.pop("arrival_time", float(number))
    params = SamplingParams(**{"max_tokens": 5, **fields})  # type: ignore[arg-type]
    return Submit(
        request_id=request_id(number),
        prompt_ids=pack(prompt),
        sampling=params,
        arrival_time=arrival,  # type: ignore[arg-type]
        **own,  # type: ignore[arg-type]
    )


@dataclass
class Record:
    """What a frontend saw of one request."""

    peer: bytes
    submit: Submit
    token_ids: list[int] = field(default_factory=list)
    prompt_logprobs: list[int] = field(default_factory=list)
    """Ids of the prompt tokens from position 1 on, as their log-probabilities told them."""
    cached_tokens: int | None = None
    begun: Begun = NOT_BEGUN
    finished: Finished | None = None
    finished_at: float = 0.0
    vector: list[float] | None = None
    admitted: bool = False
    survived: int = 0
    safe_len: int = 0

    @property
    def wants_logprobs(self) -> bool:
        return self.submit.sampling.logprobs is not None

    def journal(self) -> Submit:
        """What a frontend sends a scheduler that was started anew."""
        positions = len(self.prompt_logprobs) + 1 if self.prompt_logprobs else 0
        if len(self.token_ids) >= self.safe_len:
            self.survived = 0
        self.survived += 1
        self.safe_len = len(self.token_ids) + FURTHER
        until = self.submit.until
        if self.admitted or self.token_ids:
            until = msgspec.structs.replace(until, queue=0.0)
        if self.token_ids:
            until = msgspec.structs.replace(until, first_token=0.0)
        return msgspec.structs.replace(
            self.submit,
            output_ids=pack(self.token_ids),
            prompt_logprobs_end=positions,
            begun=self.begun if self.token_ids else NOT_BEGUN,
            survived=self.survived,
            until=until,
        )


class Harness:
    """One scheduler, one worker, and all that was said of each request, by id."""

    def __init__(
        self, limits: Limits, depth: int = 2, cache_facts: dict[str, str] | None = None
    ) -> None:
        self.limits = limits
        self._cache_facts = cache_facts or {}
        self.depth = depth
        self.now = 0.0
        self._epoch = 0
        self.records: dict[bytes, Record] = {}
        self.fatal: set[int] = set()
        self.deadly: set[int] = set()
        """Tokens: the scheduler dies when it plans a step for a prompt with one of these."""
        self.longest_batch = 1 << 30
        self.trial = Trial(0, [])
        """What the supervisor was told last."""
        self._start_scheduler()
        self.preparing: list[int] = []
        """Grammars that the worker has not reported yet."""
        self.worker = self._new_worker()
        self.plans: collections.deque[StepPlan] = collections.deque()
        self.trials = True
        """Or nobody is accused, whatever dies."""
        self.failing_kills = False
        """What a step that fails does to its worker."""
        self.results_get_lost = False
        """A worker that dies takes along the result of the step before (for `failing_kills`)."""
        self._ahead: StepResult | None = None
        """Of the oldest plan, if the worker has already run it."""
        self.num_deaths = 0
        """Of workers, and of schedulers that plan what is deadly."""
        self.late: list[StepResult] = []
        """Of workers, or to a scheduler, that are no more."""
        self.history: list[StepPlan] = []

    def _start_scheduler(self) -> None:
        accused, self.trial = self.trial.accused, Trial(0, [])
        self.scheduler = Scheduler(
            self.limits,
            b"test",
            "tiny",
            clock=lambda: self.now,
            epoch=self._epoch,
            cache_facts=self._cache_facts,
            accused=accused,
            on_trial=self._note_trial,
            started=max([self.now, *self._arrivals()]),
        )
        self.life = self.scheduler._life
        last = first_number(self._epoch)
        self.life.gate = GrammarGate(last, max_bytes=300_000, max_idle_bytes=150_000)

    def _arrivals(self) -> list[float]:
        """Of what an earlier scheduler took in: before this one began, whatever time it is."""
        arrivals = [one.submit.arrival_time for one in self.records.values()]
        return [float(np.nextafter(one, np.inf)) for one in arrivals]

    def _note_trial(self, trial: Trial) -> None:
        self.trial = trial

    def _new_worker(self) -> FakeWorker:
        limits = self.limits
        worker = FakeWorker(
            num_blocks=limits.num_blocks,
            block_size=limits.block_size,
            max_num_seqs=limits.max_num_seqs,
            vocab=limits.vocab_size,
        )
        worker.whole_prompts = limits.whole_prompts
        worker.fatal, worker.longest_batch = self.fatal, self.longest_batch
        return worker

    def fail_step(self, plan: StepPlan) -> None:
        """The plan could not be computed, nor are those behind it."""
        if self.failing_kills:
            self.lose_workers(late=False)
            return
        self.plans.clear()
        self.preparing.clear()
        self.worker.adopt(self.scheduler.stats().step)
        self.scheduler.fail(StepFailed(plan.step, memory=True))
        self._read(self.scheduler.take_outputs())
        self.check()

    def lose_workers(self, late: bool) -> None:
        """Others take their place. `late`: the last results of the dead are still under way."""
        if late:
            self.late += [self.worker.run(plan) for plan in self.plans]
        self.plans.clear()
        self.preparing.clear()
        step = self.scheduler.stats().step
        self.worker = self._new_worker()
        self.worker.adopt(step)
        self.num_deaths += 1
        self.trial = Trial(0, [])
        if not self.trials:
            self.life.flights.clear()
        self.scheduler.replay(self.limits.num_blocks)
        self._read(self.scheduler.take_outputs())
        self.check()

    def lose_scheduler(self, late: bool) -> None:
        """The workers go on, and the frontends say again what they wait for."""
        done = [self.worker.run(plan) for plan in self.plans]
        self.late += done if late else []
        self.plans.clear()
        self.preparing.clear()
        self._epoch += 1
        self._start_scheduler()
        self.worker.adopt(first_number(self._epoch))
        for record in self.records.values():
            if record.finished is None:
                journal = record.journal()
                if not self.trials:
                    journal.survived = 0
                self.scheduler.add(record.peer, journal)
        self._read(self.scheduler.take_outputs())
        self.check()

    def submit(self, submit: Submit, peer: bytes = PEER) -> None:
        self.records.setdefault(submit.request_id, Record(peer, submit))
        self.scheduler.add(peer, submit)
        self._read(self.scheduler.take_outputs())

    def abort(self, *numbers: int, peer: bytes = PEER) -> None:
        self.scheduler.abort(peer, [request_id(number) for number in numbers])
        self._read(self.scheduler.take_outputs())
        self.check()

    def carry_out(self) -> None:
        """Hand the worker what it must be told before the next plan."""
        for order in self.scheduler.take_orders():
            self.worker.order(order)
            if isinstance(order, PrepareGrammar):
                self.preparing.append(order.number)

    def expire(self) -> None:
        self.scheduler.expire()
        self._read(self.scheduler.take_outputs())
        self.check()

    def compile(self) -> bool:
        """The worker reports its oldest grammar."""
        self.carry_out()
        if not self.preparing:
            return False
        self.scheduler.on_grammar(GrammarReady(rank=0, number=self.preparing.pop(0)))
        self._read(self.scheduler.take_outputs())
        self.check()
        return True

    def gated(self) -> set[Request]:
        return set(self.life.gate.waiting())

    def dispatch(self) -> bool:
        """Plan one step, if one more may be in flight."""
        if len(self.plans) >= self.depth:
            return False
        self.carry_out()
        calm = not self.life.trials.active
        filling, backlog = dict(self.life.filling), self.backlog()
        over = self.over()
        running = list(self.life.running.values())
        plan = self.scheduler.schedule()
        if plan is not None and self._is_deadly(plan):
            self.num_deaths += 1
            self.lose_scheduler(late=False)
            return True
        backlog += sum(len(one.token_ids) for one in running if one.slot < 0 and not one.over)
        self._read(self.scheduler.take_outputs())
        if plan is not None:
            if calm:  # else the backlog grew when the plan was made
                self._check_bounds(plan, filling, backlog, over)
            self.plans.append(plan)
            self.history.append(plan)
        self.check()
        return plan is not None

    def _is_deadly(self, plan: StepPlan) -> bool:
        running = self.life.running
        riders = (running[slot] for slot in unpack(plan.slots).tolist() if slot in running)
        return any(self.deadly & set(one.token_ids[: one.prompt_len].tolist()) for one in riders)

    def backlog(self) -> int:
        """Tokens of prompts still to be computed, recounted."""
        held = set(self.life.trials.held())
        return self.backlog_of(set(self.life.requests.values()) - self.gated() - held)

    def backlog_of(self, requests: Iterable[Request]) -> int:
        """Of a preempted request, the outputs are prompt too."""
        computed = [*self.life.slots.computed.tolist(), 0]  # the last: of who has no slot
        return sum(max(len(one.token_ids) - computed[one.slot], 0) for one in requests)

    def _check_bounds(
        self, plan: StepPlan, filling: dict[int, Request], backlog: int, over: Set[int]
    ) -> None:
        """No step is over the budget; one with decodes takes a share of prompts, never none.

        Rows of tenants over their share do not count.
        """
        limits = self.limits
        rows = dict(zip(unpack(plan.slots).tolist(), unpack(plan.num_tokens).tolist(), strict=True))
        assert sum(rows.values()) <= limits.max_num_batched_tokens
        new = {row.slot for row in plan.new_rows}
        prompts = sum(count for slot, count in rows.items() if slot in new or slot in filling)
        decodes = sum(rows.values()) - prompts
        if any(
            slot not in new and slot not in filling and self._tenant(slot) not in over
            for slot in rows
        ):
            assert prompts <= prefill_share(backlog, limits.prefill_beside_decode)
        if any(one.slot == slot and one.tenant not in over for slot, one in filling.items()):
            assert prompts or decodes >= limits.max_num_batched_tokens

    def over(self) -> Set[int]:
        """Tenants over their share, as the next plan will see them."""
        planner = self.scheduler._planner
        return self.life.tenants.over(planner._prompts(self.life.slots.wanted()))

    def _tenant(self, slot: int) -> int:
        return int(self.life.slots.tenant[slot])

    def complete(self, seconds: float = 0.01) -> bool:
        """Run the oldest plan in flight, for so long."""
        if not self.plans:
            return False
        self.now += seconds
        while self.late:
            self._read(self.scheduler.update(self.late.pop(0)))
        try:
            result = self._run_oldest()
        except StepFails:
            self.fail_step(self.plans[0])
            return True
        self.plans.popleft()
        result = msgspec.structs.replace(result, forward_seconds=seconds)
        self._read(self.scheduler.update(result))
        self.check()
        return True

    def _run_oldest(self) -> StepResult:
        result = self._ahead or self.worker.run(self.plans[0])
        self._ahead = None
        if self.results_get_lost and len(self.plans) > 1:
            self._ahead = self.worker.run(self.plans[1])
        return result

    def turn(self) -> bool:
        while self.dispatch():
            pass
        return self.complete()

    def drain(self, max_turns: int = 20_000) -> None:
        """Run until nothing is left; every request must have ended and every block be free."""
        for _ in range(max_turns):
            if not self.turn() and not self.compile():
                break
        assert not self.life.requests, "requests that never end"
        assert all(record.finished for record in self.records.values())
        assert self.life.kv.pool.num_used == 0
        assert self.life.slots.num_vacant == self.limits.max_num_seqs

    def record(self, number: int) -> Record:
        return self.records[request_id(number)]

    def _read(self, outputs: list[tuple[bytes, Outputs]]) -> None:
        assert len({peer for peer, _ in outputs}) == len(outputs)
        for peer, message in outputs:
            self._read_one(peer, message)

    def _read_one(self, peer: bytes, message: Outputs) -> None:
        for one in message.admitted:
            self.records[one].admitted = True
        for started in message.started:
            record = self.records[started.request_id]
            assert record.cached_tokens is None and not record.token_ids
            record.cached_tokens = started.cached_tokens
            record.begun = started.begun
        for values in message.prompt_logprobs:
            record = self.records[values.request_id]
            assert values.start == len(record.prompt_logprobs) + 1
            record.prompt_logprobs += unpack(values.values.token_ids).tolist()
        ids = message.request_ids
        logprobs = dict.fromkeys(unpack(message.logprob_rows).tolist(), -1)
        if message.logprobs is not None:
            told = unpack(message.logprobs.token_ids).tolist()
            logprobs = dict(zip(logprobs, told, strict=True))
        for index, token in enumerate(unpack(message.token_ids).tolist()):
            record = self.records[ids[16 * index : 16 * index + 16]]
            assert logprobs.get(index) == (token if record.wants_logprobs else None)
            assert record.peer == peer and record.finished is None
            assert record.cached_tokens is not None or self._fails_in(message, record)
            record.token_ids.append(token)
            record.begun = msgspec.structs.replace(record.begun, token=self.now)
        for pooled in message.pooled:
            record = self.records[pooled.request_id]
            assert record.peer == peer and record.vector is None and record.finished is None
            record.vector = unpack_floats(pooled.vector).tolist()
        for finished in message.finished:
            record = self.records[finished.request_id]
            assert record.peer == peer and record.finished is None
            record.finished, record.finished_at = finished, self.now

    def _fails_in(self, message: Outputs, record: Record) -> bool:
        ends = (one for one in message.finished if one.request_id == record.submit.request_id)
        return any(end.error == "internal_error" for end in ends)

    def check(self) -> None:
        """Every block is free or owned as often as counted; every slot has one request."""
        life, pool = self.life, self.life.kv.pool
        owned = collections.Counter(
            block for request in life.running.values() for block in request.block_ids
        )
        free = pool.free_blocks()
        assert len(free) == len(set(free)) == pool.num_free
        assert not owned.keys() & set(free)
        assert len(owned) + len(free) == pool.num_blocks
        assert all(pool.refs(block) == count for block, count in owned.items())
        assert len(life.running) + life.slots.num_vacant == self.limits.max_num_seqs
        assert all(request.slot == slot for slot, request in life.running.items())
        waiting = sum(request.slot < 0 for request in life.requests.values())
        assert waiting == life.num_waiting
        tokens = sum(len(one.token_ids) for one in life.requests.values() if one.slot < 0)
        assert tokens == life.backlog.num_tokens
        held = set(life.trials.held())
        assert held == {one for one in life.requests.values() if one.is_held}
        assert len(self.gated()) == len(life.gate)
        begun = life.filling.values()
        assert self.backlog_of(begun) + life.waiting.num_tokens == self.backlog()
        self._check_queue()
        cache = life.kv.cache
        assert {cache._block_of[key]: key for key in cache._block_of} == cache._key_of
        self._check_map(owned)

    def _check_queue(self) -> None:
        """What each tenant has of the bounds, recounted; and of newcomers nothing has begun."""
        tenants = self.life.tenants
        queue, fresh = np.zeros_like(tenants.queue), np.zeros_like(tenants.fresh)
        newcomers = self.newcomers()
        for one in self.life.requests.values():
            waits = one.slot < 0
            queue[:, one.tenant] += (1, len(one.token_ids) * waits)
            fresh[:, one.tenant] += (one in newcomers) * np.array([1, one.prompt_len])
        assert (queue == tenants.queue).all() and (fresh == tenants.fresh).all()
        assert newcomers <= set(self.life.requests.values())
        assert all(one.cached_tokens is None and not one.num_outputs for one in newcomers)

    def newcomers(self) -> set[Request]:
        lines = self.life.newcomers._lines.values()
        return {one for line in lines for one in line.requests}

    def _check_map(self, owned: collections.Counter[int]) -> None:
        """As the live page shows the blocks, each of which is held so often."""
        life = self.life
        if self.limits.num_blocks > MAX_CELLS:
            return
        shown = dict.fromkeys(life.kv.cache._key_of, CACHED)
        for request in life.running.values():
            shown |= dict.fromkeys(request.block_ids, request.colour)
        shown |= {block: SHARED for block, count in owned.items() if count > 1}
        cells = life.kv.map.cells()
        assert {block: cells[block] for block in shown} == shown
        assert cells.count(FREE) == self.limits.num_blocks - len(shown)


def here(hub: MemoryHub[ToWorker, FromWorker], num_ranks: int, num_blocks: int = 32) -> WorkerGroup:
    """A group of workers that has joined."""
    group = WorkerGroup(hub, num_ranks)
    join(hub, group, num_ranks, num_blocks=num_blocks)
    return group


def join(
    hub: MemoryHub[ToWorker, FromWorker],
    group: WorkerGroup,
    num_ranks: int,
    *,
    epoch: int = 1,
    num_blocks: int = 32,
) -> None:
    for rank in range(num_ranks):
        ready = WorkerReady(rank=rank, num_blocks=num_blocks, epoch=epoch)
        hub.inbox.append((b"rank-%d" % rank, ready))
    assert group.receive() == Joined(num_blocks)
    hub.sent.clear()
