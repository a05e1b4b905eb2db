"""Engine: the loop around the scheduler: receive, update, schedule, dispatch, reply."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from octavo.services.scheduler.live import Live
from octavo.services.scheduler.lobby import STATS_INTERVAL
from octavo.services.scheduler.scheduler import Scheduler
from octavo.services.scheduler.stall import Stall
from octavo.services.scheduler.worker_group import Joined, WorkerGroup
from octavo.shared.laps import Laps
from octavo.shared.messages import (
    Abort,
    EngineStats,
    Hello,
    HttpCounts,
    Outputs,
    PageQuery,
    PageText,
    Submit,
    ToFrontend,
    ToScheduler,
)
from octavo.shared.steps import GrammarReady, RowsRefused, StepFailed, StepResult
from octavo.shared.transport import HubLike

log = logging.getLogger(__name__)

MAX_STEPS_IN_FLIGHT = 2
"""One runs, the next waits behind it: the device never waits for us."""
HANG_TIMEOUT = 30.0
"""Seconds, as in ServerConfig."""
MESSAGES_PER_TURN = 64
"""A flood of submissions must not keep the workers waiting for their next plan."""


class Engine:
    """One thread, no await: `turn` never blocks; the caller sleeps between turns."""

    def __init__(
        self,
        scheduler: Scheduler,
        frontends: HubLike[ToFrontend, ToScheduler],
        workers: WorkerGroup,
        clock: Callable[[], float] = time.monotonic,
        hang_timeout: float = HANG_TIMEOUT,
    ) -> None:
        self._scheduler = scheduler
        self._frontends = frontends
        self._workers = workers
        self._clock = clock
        self.live = Live(scheduler, clock)
        self._known: set[bytes] = set()
        self._lost: set[bytes] = set()
        """Frontends that have ended; something of theirs may still be in the socket."""
        self._stall = Stall(hang_timeout, clock)
        self._stats_due = clock()
        self._was = (True, False)

    @property
    def gets_on(self) -> bool:
        """False: a step's result has been due for so long that it must have been lost here."""
        return not self._stall.stuck

    def turn(self) -> float:
        """Everything that can be done now; returns how many seconds the engine may sleep."""
        laps = Laps(self._clock)
        more = self._receive()
        laps.end("receive")
        outputs = self._update()
        next_deadline = self._scheduler.expire()
        laps.end("update")
        next_plan = self._dispatch()
        laps.end("plan")
        self._reply(outputs + self._scheduler.take_outputs())
        laps.end("reply")
        self._scheduler.metrics.own.spend(laps.seconds)
        wait = min(self._heartbeat(), max(min(next_deadline, next_plan) - self._clock(), 0.0))
        return 0.0 if more else wait

    def _receive(self) -> bool:
        """Handle what the frontends sent; True when more may be waiting."""
        for _ in range(MESSAGES_PER_TURN):
            if (item := self._frontends.receive()) is None:
                return False
            if item[0] not in self._lost:
                self._handle(*item)
        return True

    def _handle(self, peer: bytes, message: ToScheduler) -> None:
        match message:
            case Submit():
                self._scheduler.add(peer, message)
            case Abort():
                self._scheduler.abort(peer, message.request_ids, message.reason)
            case PageQuery():
                text = self._page(message.page)
                self._frontends.send(peer, PageText(query_id=message.query_id, text=text))
            case Hello():
                self._greet(peer)
            case HttpCounts():
                self._scheduler.metrics.http.note(peer, message)

    def _page(self, page: str) -> bytes:
        return self._metrics() if page == "metrics" else self.live.text()

    def _metrics(self) -> bytes:
        dropped = {
            "frontends": self._frontends.num_malformed,
            "workers": self._workers.num_malformed,
        }
        self._scheduler.metrics.own.set_to("malformed_frames", dropped)
        return self._scheduler.metrics_text()

    def _greet(self, peer: bytes) -> None:
        if peer not in self._known:
            self._known.add(peer)
            self._frontends.send(peer, self._stats())

    def lost_frontend(self, peer: bytes) -> None:
        """It has ended: nobody waits for its requests."""
        while self._receive():  # its last words
            pass
        self._lost.add(peer)
        self._known.discard(peer)
        self._scheduler.abort_all(peer)
        self._scheduler.metrics.http.leave(peer)

    def restarts(self, counts: dict[str, int]) -> None:
        """How often processes of each role were started again."""
        self._scheduler.metrics.own.set_to("process_restarts", counts)

    def lost_workers(self) -> None:
        """No plan goes out until others have come."""
        self._workers.lost()
        self._stats_due = self._clock()

    def _update(self) -> list[tuple[bytes, Outputs]]:
        outputs: list[tuple[bytes, Outputs]] = []
        while (message := self._workers.receive()) is not None:
            match message:
                case StepResult():
                    outputs += self._scheduler.update(message)
                case GrammarReady():
                    self._scheduler.on_grammar(message)
                case RowsRefused():
                    self._scheduler.drop_refused(message)
                case StepFailed():
                    if self._scheduler.fail(message):
                        self._workers.step_failed()
                case Joined():
                    log.info("workers are here: what ran is computed again")
                    self._scheduler.replay(message.num_blocks)
                    self._scheduler.metrics.own.start_seconds = message.phases
                    self._stats_due = self._clock()
        return outputs

    def _dispatch(self) -> float:
        """Before the replies go out: the workers come first. Returns when the next plan is due."""
        if not self._workers.present:
            return math.inf
        for order in self._scheduler.take_orders():
            self._workers.broadcast(order)
        while self._scheduler.num_in_flight < MAX_STEPS_IN_FLIGHT:
            if (due := self._scheduler.plan_due()) > self._clock():
                return due
            if (plan := self._scheduler.schedule()) is None:
                break
            self._workers.broadcast(plan)
        return math.inf

    def _reply(self, outputs: list[tuple[bytes, Outputs]]) -> None:
        for peer, message in outputs:
            self._frontends.send(peer, message)

    def _heartbeat(self) -> float:
        """EngineStats when due, and when work or progress begins or ends; returns seconds to the
        next."""
        running = self._scheduler.oldest if self._workers.present else None
        self._stall.look(running, self._scheduler.durations)
        stats = self._stats()
        now, state = self._clock(), (not (stats.running or stats.waiting), stats.stalled)
        if now >= self._stats_due or state != self._was:
            for peer in self._known:
                self._frontends.send(peer, stats)
            self._was = state
            self._stats_due = now + STATS_INTERVAL
        left = self._stall.left or 0.0
        return min(self._stats_due - now, left) if left > 0 else self._stats_due - now

    def _stats(self) -> EngineStats:
        return self._scheduler.stats(
            degraded=not self._workers.present, stalled=self._stall.stalled
        )
