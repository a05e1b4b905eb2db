"""Scheduler: continuous batching under one token budget, with steps that overlap.

There is no prefill phase and no decode phase. A running request has computed some of the tokens
that it knows and wants to catch up; a step gives it some. A plan may be made while the one before
runs, for the newest token of a request is known to exist, and where, before its id arrives.
Hence a finish is noticed one step late, and what that step computed for the request is dropped.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from octavo.services.scheduler.lifecycle import Lifecycle
from octavo.services.scheduler.limits import Limits
from octavo.services.scheduler.metrics import Metrics
from octavo.services.scheduler.pace import Pace
from octavo.services.scheduler.planner import Planner
from octavo.services.scheduler.queue_bound import QueueBound
from octavo.services.scheduler.quotas import Refusal
from octavo.services.scheduler.request import Request
from octavo.services.scheduler.snapshot import snapshot
from octavo.services.scheduler.stall import Durations
from octavo.services.scheduler.step import Flight
from octavo.services.scheduler.update import Updater
from octavo.shared.messages import EngineStats, FinishReason, Outputs, Submit, unpack
from octavo.shared.process import Trial
from octavo.shared.steps import (
    DropGrammar,
    GrammarReady,
    PrepareGrammar,
    RowsRefused,
    StepFailed,
    StepPlan,
    StepResult,
    first_number,
)

log = logging.getLogger(__name__)


class Scheduler:
    """Pure bookkeeping: no socket, no thread, and no clock but the given one."""

    def __init__(
        self,
        limits: Limits,
        fingerprint: bytes = b"",
        model_name: str = "",
        clock: Callable[[], float] = time.monotonic,
        epoch: int = 0,
        cache_facts: Mapping[str, str] = MappingProxyType({}),
        accused: Collection[bytes] = (),
        on_trial: Callable[[Trial], None] = lambda trial: None,
        started: float | None = None,
    ) -> None:
        """`started`: when this process began to take requests, if not now."""
        self.model_name = model_name
        self._epoch = epoch
        self._limits = limits
        self._metrics = Metrics(model_name, limits, epoch, cache_facts)
        self._life = Lifecycle(
            limits, fingerprint, self._metrics, clock, first_number(epoch), accused
        )
        self._life.on_trial = on_trial
        self._planner = Planner(self._life, first_number(epoch))
        self._updater = Updater(self._life)
        self._bound = QueueBound(self._life)
        self._pace = Pace()
        self._serial = 0
        self._began = 0.0
        """When the oldest plan that is on its way began to run."""
        self._started = clock() if started is None else started
        self._compilations = 0
        """Of these workers, as they last said."""
        self.durations = Durations()

    @property
    def oldest(self) -> Flight | None:
        """The plan that runs now."""
        return self._life.flights[0] if self._life.flights else None

    @property
    def num_in_flight(self) -> int:
        """Plans whose results have not arrived."""
        return len(self._life.flights)

    def add(self, peer: bytes, submit: Submit) -> None:
        """Queue a request of frontend `peer`, or refuse it by a Finished."""
        life = self._life
        if submit.request_id in life.requests:
            return  # sent to the scheduler before this one, and again when this one had come
        try:
            if self._is_turned_away(peer, submit):
                return
            request = Request.of(peer, submit, self._serial, self._limits)
        except Exception as error:
            log.error("request %s is malformed: %s", submit.request_id.hex(), error)
            life.refuse(peer, submit.request_id, error="internal_error")
            return
        self._serial += 1
        with life.boundary(request):
            self._take_in(request, submit)

    def _is_turned_away(self, peer: bytes, submit: Submit) -> bool:
        """Say so if a bound of the server, or of its key, leaves no room for it."""
        if not self._is_new(submit):
            return False
        if (bound := self._bound.refuses(submit)) is not None:
            self._metrics.on_rejection(bound)
            self._life.refuse(peer, submit.request_id, error="overloaded")
            return True
        if submit.quota is None:
            return False
        if (refusal := self._life.quotas.refusal(submit.quota, self._life.clock())) is not None:
            self._life.refuse(peer, submit.request_id, error="rate_limited", refusal=refusal)
            return True
        return False

    def _is_new(self, submit: Submit) -> bool:
        """Whether nobody has taken it in: neither an earlier scheduler, nor this one a part."""
        return not submit.goes_on and submit.arrival_time >= self._started

    def _take_in(self, request: Request, submit: Submit) -> None:
        life, now = self._life, self._life.clock()
        if life.trials.is_convicted(request):
            life.quarantine.add(request, now)
        if request.prompt_len > self._limits.longest_prompt:
            life.refuse(request.peer, request.request_id, error="too_long")
        elif life.quarantine.holds(request, now):
            life.refuse(request.peer, request.request_id, error="request_quarantined")
        elif self._is_new(submit):
            self._bound.make_room(submit)
            life.enqueue(request, submit.tenant)
            life.newcomers.add(request)
        else:
            life.enqueue(request, submit.tenant, anew=not submit.goes_on)

    def expire(self) -> float:
        """End what is past its deadline; returns when the next is due."""
        life = self._life
        for request, failing in life.deadlines.take_due(life.clock()):
            refusal = Refusal(f"The request {failing}.")
            with life.boundary(request):
                life.finish(request, "error", error="deadline_exceeded", refusal=refusal)
        return life.deadlines.following()

    def abort(
        self, peer: bytes, request_ids: Iterable[bytes], reason: FinishReason = "abort"
    ) -> None:
        """End these requests of frontend `peer`; ids that are not (any more) known are ignored."""
        for request_id in request_ids:
            request = self._life.requests.get(request_id)
            if request is not None and request.peer == peer:
                with self._life.boundary(request):
                    self._life.finish(request, reason)

    def abort_all(self, peer: bytes) -> None:
        """The frontend is no more: end its requests in silence."""
        lost = [one.request_id for one in self._life.requests.values() if one.peer == peer]
        self.abort(peer, lost)
        self._life.outbox.discard(peer)

    def schedule(self) -> StepPlan | None:
        """The next plan, which must be sent to the workers; None when there is nothing to do."""
        self._life.go_on_with_trials()
        if not self._life.flights:
            self._began = self._life.clock()
        return self._planner.plan()

    def plan_due(self) -> float:
        """When the next plan should be made, on this scheduler's clock: not while it could wait."""
        flights = self._life.flights
        return self._began + self._pace.hold(flights[0]) if flights else self._began

    def take_orders(self) -> list[PrepareGrammar | DropGrammar]:
        """What the workers must be told before the next plan."""
        gate = self._life.gate
        orders, gate.orders = gate.orders, []
        return orders

    def on_grammar(self, ready: GrammarReady) -> None:
        """All ranks have answered a PrepareGrammar."""
        self._life.on_grammar(ready.number, ready.failed)

    def replay(self, num_blocks: int) -> None:
        """New workers, who have computed nothing: what runs begins again from its tokens.

        Raises RuntimeError if they have less KV cache than was counted on: a new scheduler has to
        count again.
        """
        if num_blocks < self._limits.num_blocks:
            raise RuntimeError(f"{num_blocks} KV blocks where {self._limits.num_blocks} were")
        life = self._life
        running = len(life.running)
        life.replay([rider for flight in life.flights for rider in life.riders(flight)], died=True)
        self._metrics.own.add("replayed_requests", "workers", running)
        self._compilations = 0

    def fail(self, failed: StepFailed) -> bool:
        """A plan could not be computed: what runs begins again, those of the plan on trial.

        False: no such plan is on its way, or no longer, for another rank has said so already.
        """
        found = [flight for flight in self._life.flights if flight.step == failed.step]
        if not found:
            return False
        accused = self._life.riders(found[0])
        log.warning("a step of %d requests failed", len(accused))
        self._life.replay(accused, died=False, memory=failed.memory)
        self._metrics.own.add("failed_steps")
        self._metrics.own.add("replayed_requests", "step", len(accused))
        return True

    def drop_refused(self, refused: RowsRefused) -> None:
        """End what a rank could not take in, before ids come that it has spoilt."""
        for slot in unpack(refused.slots).tolist():
            request = self._life.running.get(slot)
            if request is None or request.admitted_by != refused.step:
                continue  # over already, or the word of workers that are no more
            with self._life.boundary(request):
                self._life.finish(request, "error", error="internal_error")

    def update(self, result: StepResult) -> list[tuple[bytes, Outputs]]:
        """Take in the oldest plan's result; returns what to tell each frontend.

        A result of no such plan is one of workers, or to a scheduler, that are no more.
        """
        flights = self._life.flights
        if not flights or flights[0].step != result.step:
            log.warning("a late result of step %d is dropped", result.step)
            return []
        flight = flights.popleft()
        if len(flight.slots) * 4 != len(result.token_ids):
            raise RuntimeError(f"the result of step {result.step} has another number of rows")
        self._began = self._life.clock()
        self._time(flight, result.forward_seconds)
        self._metrics.own.on_step(
            result.forward_seconds, flight.prompts, flight.decodes, result.graph
        )
        self._metrics.own.spend(result.spent)
        self._metrics.own.add("compilations", amount=result.compilations - self._compilations)
        self._compilations = result.compilations
        self._updater.apply(flight, result)
        return self.take_outputs()

    def _time(self, flight: Flight, seconds: float) -> None:
        """What a step took is what the next ones are expected to."""
        self._pace.observe(flight, seconds)
        self.durations.observe(flight, seconds)
        self._life.rations.cost.observe(len(flight.slots), flight.prompts, seconds)
        if flight.bound < math.inf:
            self._life.rations.settle(seconds, flight.bound)
        if flight.decodes:
            self._life.guard.observe(seconds, flight.prompts)

    def take_outputs(self) -> list[tuple[bytes, Outputs]]:
        """What has been filed for the frontends since the last call, one Outputs each."""
        return self._life.outbox.take()

    def stats(self, degraded: bool = False, stalled: bool = False) -> EngineStats:
        pool = self._life.kv.pool
        return EngineStats(
            step=self._planner.step,
            running=len(self._life.running),
            waiting=self._life.num_waiting,
            blocks_used=pool.num_used,
            blocks_total=pool.num_blocks,
            epoch=self._epoch,
            degraded=degraded,
            stalled=stalled,
        )

    def metrics_text(self) -> bytes:
        """Prometheus text format."""
        life = self._life
        return self._metrics.text(self.stats(), len(life.kv.cache), life.num_deferred)

    def snapshot(self) -> dict[str, Any]:
        """What the live page shows, without the processes."""
        return snapshot(self._life, self.stats())

    @property
    def metrics(self) -> Metrics:
        return self._metrics
