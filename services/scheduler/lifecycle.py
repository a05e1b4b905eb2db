"""Lifecycle: a request waits, runs in a slot, perhaps waits again, and ends.

The one place that moves requests between these states, so that slot, blocks, queue and the
flights' notes of who left always change together.
"""

from __future__ import annotations

import collections
import contextlib
import logging
from collections.abc import Callable, Collection, Iterator

import numpy as np

from octavo.services.scheduler.backlog import Backlog
from octavo.services.scheduler.deadlines import Deadlines
from octavo.services.scheduler.departures import Departures
from octavo.services.scheduler.grammar_gate import GrammarGate
from octavo.services.scheduler.itl_guard import ItlGuard
from octavo.services.scheduler.kv_blocks import KVBlocks
from octavo.services.scheduler.limits import Limits
from octavo.services.scheduler.metrics import Metrics
from octavo.services.scheduler.newcomers import Newcomers
from octavo.services.scheduler.outbox import Outbox
from octavo.services.scheduler.quarantine import Quarantine
from octavo.services.scheduler.quotas import Quotas, Refusal
from octavo.services.scheduler.rations import Rations
from octavo.services.scheduler.request import NO_SLOT, Request
from octavo.services.scheduler.slots import Longs, Slots
from octavo.services.scheduler.step import Flight
from octavo.services.scheduler.tenants import Floats, Tenants, weight_of
from octavo.services.scheduler.trials import Trials
from octavo.services.scheduler.waiting import WaitingQueue
from octavo.shared.messages import Finished, FinishReason
from octavo.shared.process import Trial

log = logging.getLogger(__name__)

MESSAGES = {
    "numerical_error": "The model produced invalid numbers for this request.",
    "overloaded": "Too many requests are queued.",
    "too_long": "The request needs more KV cache than this server has.",
    "constraint_error": "The request's constraints leave no token to follow, or are too slow.",
    "internal_error": "The request failed inside the engine.",
    "out_of_memory": "The server has not enough memory for this request now.",
    "request_quarantined": "Workers failed each time that they worked on this request.",
}


class Lifecycle:
    """`requests`: all that have not ended, by id; `running`: those with a slot, by slot;
    `filling`: those of them with prompt blocks to publish; `flights`: oldest first.
    """

    def __init__(
        self,
        limits: Limits,
        fingerprint: bytes,
        metrics: Metrics,
        clock: Callable[[], float],
        last_number: int = 0,
        accused: Collection[bytes] = (),
    ) -> None:
        self._fingerprint = fingerprint
        self.limits = limits
        self.metrics = metrics
        self.clock = clock
        self.kv = KVBlocks(limits, fingerprint)
        self.slots = Slots(limits)
        self.outbox = Outbox()
        self.guard = ItlGuard(limits.target_itl)
        self.rations = Rations(limits.tenant_slowdown, limits.max_num_seqs)
        self.tenants = Tenants(limits.max_num_seqs, limits.num_blocks)
        self.backlog = Backlog(self.tenants)
        self.newcomers = Newcomers(self.tenants)
        self.quotas = Quotas()
        self.deadlines = Deadlines()
        self.departures = Departures()
        self.waiting = WaitingQueue(self._standing, self._all_aged)
        self.gate = GrammarGate(last_number)
        self.trials = Trials(self._length, accused)
        self.quarantine = Quarantine()
        self.on_trial: Callable[[Trial], None] = lambda trial: None
        """Called before they run."""
        self.requests: dict[bytes, Request] = {}
        self.running: dict[int, Request] = {}
        self.filling: dict[int, Request] = {}
        self.flights: collections.deque[Flight] = collections.deque()

    @property
    def num_waiting(self) -> int:
        """Requests without a slot, wherever they are."""
        return len(self.backlog)

    @property
    def num_deferred(self) -> int:
        """Those that a free slot would not help: they wait for a grammar, or for a trial's end."""
        return len(self.backlog) - len(self.waiting)

    def enqueue(self, request: Request, tenant: str = "", anew: bool = True) -> None:
        """`anew`: it is one more request of its key."""
        if not self.num_waiting:
            self.departures.begin(self.clock())
        quota = request.quota
        if quota is not None:
            self.quotas.join(quota, request.prompt_len, self.clock(), anew)
        request.tenant = self.tenants.join(tenant, weight_of(quota))
        self.metrics.on_arrival(request, tenant)
        self.requests[request.request_id] = request
        self.backlog.note(request)
        self.deadlines.add(request, request.until)
        if not self.gate.must_wait(request):
            self._queue(request)

    def _queue(self, request: Request) -> None:
        """It could run."""
        if not self.trials.must_wait(request):
            self.waiting.add(request)

    def on_grammar(self, number: int, failed: bool) -> None:
        """The workers have compiled a grammar, or could not."""
        for request in self.gate.opened(number, failed):
            with self.boundary(request):
                if failed:
                    self.finish(request, "error", error="internal_error")
                else:
                    self._queue(request)

    def admit(self, request: Request, hits: list[int]) -> int:
        """A waiting request takes a slot and all blocks that it needs by now; returns the slot."""
        num_cached = len(hits) * self.limits.block_size
        self.waiting.discard(request)
        self.backlog.discard(request)
        self.newcomers.begin(request)
        self.kv.admit(request, hits)
        peer = self.outbox.peer_number(request.peer)
        slot = self.slots.occupy(request, peer, num_cached, self._aged(request))
        self.running[slot] = self.filling[slot] = request
        self.tenants.seat(request.tenant, 1, len(request.block_ids))
        if request.cached_tokens is None:
            request.cached_tokens = num_cached
            if not request.admitted_time:
                request.admitted_time = self.clock()
                self.metrics.on_admission(request)
            if request.until.queue:
                self.outbox.to(request.peer).admitted.append(request.request_id)
            if self.limits.prefix_caching:
                self.metrics.on_lookup(len(request.token_ids), num_cached)
        return slot

    def preempt(self, request: Request) -> None:
        """Back to the queue. Its tokens stay; what is cached of its blocks may be found again."""
        with self.boundary(request):
            self._leave(request)
            request.num_preemptions += 1
            self._queue(request)
            self.metrics.on_preemption()

    def riders(self, flight: Flight) -> list[Request]:
        """The requests of a plan in flight, without those that have ended since."""
        found = [
            flight.vacated.get(slot) or self.running.get(slot) for slot in flight.slots.tolist()
        ]
        return [one for one in found if one is not None and not one.over]

    def replay(self, accused: list[Request], died: bool, memory: bool = False) -> None:
        """All that the workers had is gone: cache, grammars, tokens in flight.

        `accused`: of whose step it came.
        """
        self.flights.clear()
        for request in list(self.running.values()):
            with self.boundary(request):
                self._leave(request, publish=False)
                self.waiting.add(request)
        for request in self.requests.values():
            request.pending = 0
        self.kv = KVBlocks(self.limits, self._fingerprint)
        for request in self.gate.replay():
            self.waiting.discard(request)
        convicted = self.trials.accuse(list(dict.fromkeys(accused)), died)
        if self.trials.active:
            for request in self.waiting.take_all():
                self._queue(request)
        if convicted is not None and memory:
            self.finish(convicted, "error", error="out_of_memory")
        elif convicted is not None:
            self.convict(convicted)
        self._tell_of_trials()

    def convict(self, guilty: Request) -> None:
        """End a request that does harm, and its like that have not shown that they do none."""
        now = self.clock()
        self.quarantine.add(guilty, now)
        self.finish(guilty, "error", error="request_quarantined")
        for one in list(self.requests.values()):
            if self.trials.is_suspect(one) and self.quarantine.holds(one, now):
                self.finish(one, "error", error="request_quarantined")

    def go_on_with_trials(self) -> None:
        """Once the group on trial is acquitted it makes room for the next, or for all."""
        trials = self.trials
        if trials.on_trial and trials.is_decided():
            acquitted = trials.acquit()
            proven = sum(one.answered or not trials.is_suspect(one) for one in acquitted)
            self._tell_of_trials(proven)
        if trials.active and not trials.on_trial:
            self._make_way()
            if not self.flights:
                self._let_run(trials.go_on())

    def _make_way(self) -> None:
        for request in list(self.running.values()):
            self.preempt(request)
        for request in self.waiting.take_all():
            self._queue(request)

    def _let_run(self, group: list[Request]) -> None:
        self._tell_of_trials()
        for request in group:
            with self.boundary(request):
                if not self.gate.has(request):
                    self._queue(request)

    def _tell_of_trials(self, num_acquitted: int = 0) -> None:
        ids = [one.request_id for one in self.trials.on_trial]
        self.on_trial(Trial(num_acquitted, ids))

    def _aged(self, request: Request) -> int:
        priority, arrival = np.array([request.priority, request.arrival_time], np.float64)[:, None]
        return int(self._all_aged(priority, arrival)[0])

    def grow(self, request: Request) -> int:
        """One more block for a running request; returns it."""
        block = self.kv.grow(request)
        self.slots.capacity[request.slot] += self.limits.block_size
        self.tenants.seat(request.tenant, 0, 1)
        return block

    def _standing(self, tenants: Longs) -> Floats:
        """Tenants are served in the order of this: who has had least, then who has fewest slots."""
        return np.stack([self.tenants.counter[tenants], self.tenants.seats[0, tenants]])

    def _all_aged(self, priorities: Floats, arrivals: Floats) -> Floats:
        return self.limits.aged(priorities, self.clock() - arrivals)

    def _length(self, request: Request) -> int:
        return (
            int(self.slots.have[request.slot])
            if request.slot != NO_SLOT
            else len(request.token_ids)
        )

    def finish(
        self,
        request: Request,
        reason: FinishReason,
        stop_id: int | None = None,
        error: str | None = None,
        refusal: Refusal | None = None,
    ) -> None:
        """End a request, wherever it stands, and tell its frontend. Twice is once."""
        if request.over:
            return
        request.over = True
        try:
            if self.requests.pop(request.request_id, None) is not None:
                self._forget(request, reason, sound=error is None)
        finally:
            told = self.refuse(request.peer, request.request_id, reason, stop_id, error, refusal)
            told.admitted_time = request.admitted_time
            told.first_token_time = request.first_token_time

    def _forget(self, request: Request, reason: FinishReason, sound: bool) -> None:
        proven = request.pooled or self._length(request) > request.prompt_len
        if not proven:
            self.kv.distrust_own(request)
        try:
            self._leave(request, publish=proven and sound)
        finally:
            self._withdraw(request)
            self.departures.note(self.clock())
            if request.quota is not None:
                self.quotas.leave(request.quota, request.num_outputs, self.clock())
            self.metrics.on_finish(request, reason)

    def _withdraw(self, request: Request) -> None:
        """It waits nowhere, and is none of its tenant's."""
        self.backlog.discard(request)
        self.newcomers.leave(request)
        self.waiting.discard(request)
        for other in self.gate.leave(request):
            self._queue(other)
        self.trials.leave(request)
        self.tenants.leave(request.tenant)

    def turn_away(self, newcomer: Request) -> None:
        """Refuse one of `newcomers` after all: nobody served it, so it counts as if it had been
        refused when it came."""
        newcomer.over = True
        del self.requests[newcomer.request_id]
        try:
            self._withdraw(newcomer)
            if newcomer.quota is not None:
                self.quotas.give_back(newcomer.quota, newcomer.prompt_len)
            self.metrics.on_turning_away(newcomer)
        finally:
            self.refuse(newcomer.peer, newcomer.request_id, error="overloaded")

    def refuse(
        self,
        peer: bytes,
        request_id: bytes,
        reason: FinishReason = "error",
        stop_id: int | None = None,
        error: str | None = None,
        refusal: Refusal | None = None,
    ) -> Finished:
        """Tell a frontend that a request is over, whether or not it was ever known here."""
        if error is not None:
            self.metrics.on_error(error)
            refusal = refusal or self._refusal(error)
        finished = Finished(
            request_id=request_id,
            reason=reason,
            stop_id=stop_id,
            error=error,
            message=refusal.message if refusal else None,
            retry_after=refusal.retry_after if refusal else 1,
        )
        self.outbox.to(peer).finished.append(finished)
        return finished

    def _refusal(self, error: str) -> Refusal:
        """There may be room again once as many have ended as wait now."""
        wait = self.departures.wait(max(self.num_waiting, 1), self.clock())
        return Refusal(MESSAGES[error], wait)

    @contextlib.contextmanager
    def boundary(self, request: Request) -> Iterator[None]:
        """What goes wrong inside is this request's error, and nobody else's."""
        try:
            yield
        except Exception:
            log.exception("request %s failed", request.request_id.hex())
            self.finish(request, "error", error="internal_error")

    def _leave(self, request: Request, publish: bool = True) -> None:
        """Give up slot and blocks, at once even if a plan in flight names the request.

        The workers run plans in order. Whoever gets the blocks writes to them in a later plan,
        after the last write on behalf of this request.
        """
        if (slot := request.slot) == NO_SLOT:
            self.kv.release(request)  # none, but where an admission came to grief
            return
        for flight in self.flights:
            flight.vacate(request)
        slots = self.slots
        request.pending = int(slots.known[slot] - slots.have[slot])
        # Only what finished steps computed: of the last token, nobody knows yet whether its
        # numbers are sound.
        num_sound = int(min(slots.computed[slot], slots.have[slot] - 1))
        del self.running[slot]
        self.tenants.seat(request.tenant, -1, -len(request.block_ids))
        self.filling.pop(slot, None)
        slots.vacate(request)
        if not request.over:
            self.backlog.note(request)
        try:
            if publish:
                self.kv.publish_outputs(request, request.token_ids[:num_sound])
        finally:
            self.kv.release(request)
