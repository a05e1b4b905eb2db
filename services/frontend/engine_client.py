"""EngineClient: the frontend's end of the line to the scheduler.

`submit` and `abort` go out; `run` has what comes in delivered to each request's Inbox. Request
ids on the wire are our own random 128 bits, never a client's. A scheduler that was started anew
is sent every live request again, with the tokens that have arrived: the streams go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal, Protocol

from octavo.services.frontend import access
from octavo.services.frontend.delivery import Delivery
from octavo.services.frontend.http_counts import HttpCounter
from octavo.services.frontend.inbox import Inbox, Stream
from octavo.services.frontend.terms import Terms
from octavo.services.frontend.tracing import Tracer
from octavo.shared.errors import EngineDead
from octavo.shared.messages import (
    REQUEST_ID_BYTES,
    Abort,
    EngineStats,
    FinishReason,
    Hello,
    HttpCounts,
    Outputs,
    PageQuery,
    PageText,
    Submit,
    ToFrontend,
    ToScheduler,
    pack,
)
from octavo.shared.pooling import PoolingParams
from octavo.shared.process import Condition
from octavo.shared.sampling import SamplingParams

log = logging.getLogger(__name__)

QUIET_SECONDS = 1.75
"""The scheduler reports twice a second; silent for longer than this, it makes no progress."""
HEALTHY_SECONDS = 5.0
"""Silent for longer than this, it gets no new requests."""
DEAD_SECONDS = 60.0
"""Silent for longer than this, with nobody at work on it, it is dead and its requests end."""
GRACE_SECONDS = 1.0
"""How long after its deadline a request ends without the engine's word."""
HELLO_INTERVAL = 1.0
CHECKS_PER_HELLO = 2
STARTING = frozenset({"starting", "loading", "warming"})
METRICS_TIMEOUT = 2.0
NOTHING_SAMPLED = SamplingParams(temperature=0.0, max_tokens=1)
"""What a request that pools says of sampling."""


class SpokeLike(Protocol):
    """What the client needs of an AsyncSpoke."""

    async def send(self, message: ToScheduler) -> None: ...
    async def receive_all(self) -> list[ToFrontend]: ...


class EngineClient:
    def __init__(
        self,
        spoke: SpokeLike,
        clock: Callable[[], float] = time.monotonic,
        dead_seconds: float = DEAD_SECONDS,
        awake: Callable[[], float] | None = None,
    ) -> None:
        """`awake`: by which others' silence is measured, if not by `clock`."""
        self._spoke = spoke
        self._clock = clock
        self.awake = awake or clock
        self._dead_seconds = dead_seconds
        self._epoch: int | None = None
        self._live: dict[bytes, Stream] = {}
        self._delivery = Delivery(self._live, self._end, self.abort)
        self._queries: dict[int, tuple[PageQuery, asyncio.Future[bytes]]] = {}
        self._num_queries = 0
        self._answering: int | None = None
        """Epoch of the scheduler that answers queries."""
        self._last_seen: float | None = None
        self._last_outputs = 0.0
        self._sending: set[asyncio.Task[None]] = set()
        self.http = HttpCounter()
        self.stats: EngineStats | None = None
        self.closing = self._closed = False
        self.told = Condition("ready")
        """What the supervisor says of scheduler and workers."""
        self.supervised: Callable[[], bool] = lambda: True
        """Whether the supervisor gives signs of life."""

    @property
    def open(self) -> bool:
        """Whether the engine is ready, or has been."""
        return self.told.state not in STARTING

    @property
    def healthy(self) -> bool:
        """Whether new requests are taken: also while the supervisor mends the engine."""
        if self.closing or not self.open:
            return False
        return self.told.state == "degraded" or self._silence() <= HEALTHY_SECONDS

    @property
    def state(self) -> str:
        """starting, loading, warming, ready, degraded or draining."""
        if self.closing:
            return "draining"
        if not self.open:
            return self.told.state
        return "degraded" if self.trouble else "ready"

    @property
    def trouble(self) -> str:
        """Why requests are not worked on now; empty: they are."""
        stats = self.stats
        if self.told.state == "degraded" or (stats is not None and stats.degraded):
            return "Processes of the server are being started again."
        if stats is None or self._silence() > QUIET_SECONDS:
            return "The scheduler gives no sign of progress."
        return "A step takes far longer than it should." if stats.stalled else ""

    @property
    def num_live(self) -> int:
        """Sequences of this frontend that the engine still works on."""
        return len(self._live)

    @property
    def tracer(self) -> Tracer | None:
        """Told of each sequence's end."""
        return self._delivery.tracer

    @tracer.setter
    def tracer(self, tracer: Tracer | None) -> None:
        self._delivery.tracer = tracer

    async def run(self) -> None:
        """Say hello and take in what the engine sends, until cancelled."""
        watchdog = asyncio.create_task(self._watch())
        try:
            while True:
                for message in await self._spoke.receive_all():
                    self.receive(message)
                self.flush()
        finally:
            watchdog.cancel()

    async def submit(
        self,
        prompts: Sequence[tuple[Sequence[int], SamplingParams]],
        terms: Terms,
    ) -> Inbox:
        """Start n sequences for each (prompt ids, parameters); choices of a prompt stay together.

        Choice i's seed is derived from the request's seed and i alone, or drawn afresh where the
        request has none. Raises EngineDead when nobody would answer; what goes on waits, as all
        that is in flight does.
        """
        arrival = access.arrival()
        submits: list[Submit] = []
        for ids, sampling in prompts:
            names = [os.urandom(REQUEST_ID_BYTES) for _ in range(sampling.n)]
            submits += [
                Submit(
                    request_id=name,
                    prompt_ids=pack(ids),
                    sampling=sampling.for_choice(choice),
                    arrival_time=arrival,
                    priority=terms.priority,
                    cache_salt=terms.cache_salt,
                    tenant=terms.tenant,
                    until=terms.until,
                    quota=terms.quota,
                    num_choices=0 if choice or terms.goes_on else sampling.n,
                    parent=names[0] if sampling.n > 1 else b"",
                    goes_on=terms.goes_on,
                )
                for choice, name in enumerate(names)
            ]
        return await self._start(submits, terms.trace)

    async def pool(
        self, prompts: Sequence[tuple[Sequence[int], PoolingParams]], terms: Terms
    ) -> Inbox:
        """Ask for the vector of each (prompt ids, parameters). Raises EngineDead."""
        arrival = access.arrival()
        submits = [
            Submit(
                request_id=os.urandom(REQUEST_ID_BYTES),
                prompt_ids=pack(ids),
                sampling=NOTHING_SAMPLED,
                arrival_time=arrival,
                priority=terms.priority,
                tenant=terms.tenant,
                until=terms.until,
                quota=terms.quota,
                pooling=params,
            )
            for ids, params in prompts
        ]
        return await self._start(submits, terms.trace)

    async def _start(self, submits: Sequence[Submit], trace: Mapping[str, str]) -> Inbox:
        goes_on = submits[0].goes_on
        if self._closed or (self.closing and not goes_on):
            raise EngineDead("The server is shutting down.")
        if not (self.healthy or goes_on):
            raise EngineDead("The engine is not running.", code=None if self.open else self.state)
        inbox = Inbox([submit.request_id for submit in submits], access.current().id)
        family = submits[0].request_id if len(submits) > 1 else b""
        for stream, submit in zip(inbox.streams, submits, strict=True):
            submit.family = family
            stream.submit, stream.trace = submit, trace
        access.note_inbox(inbox)
        self._live |= {stream.request_id: stream for stream in inbox.streams}
        try:
            for submit in submits:
                await self._spoke.send(submit)
        except BaseException:
            self.abort(inbox.streams)
            raise
        return inbox

    def abort(self, streams: Sequence[Stream], reason: FinishReason = "abort") -> None:
        """Forget these sequences and have the engine stop those it still works on. `reason`: as in
        Abort."""
        for stream in self._forget(streams, reason):
            self._delivery.trace(stream, stream.ended(reason))

    def _forget(self, streams: Sequence[Stream], reason: FinishReason) -> list[Stream]:
        """Those that were live."""
        live = [one for one in streams if self._live.pop(one.request_id, None) is not None]
        if live:
            ids = [stream.request_id for stream in live]
            self._post(self._spoke.send(Abort(request_ids=ids, reason=reason)))
        return live

    async def page(self, page: Literal["metrics", "snapshot"]) -> bytes:
        """What the scheduler shows operators. Raises EngineDead after a timeout."""
        if not self.open:
            raise EngineDead("The server is not ready yet.", code=self.state)
        self._num_queries += 1
        query = PageQuery(query_id=self._num_queries, page=page)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._queries[query.query_id] = query, answer
        try:
            await self._tell_counts()
            await self._spoke.send(query)
            async with asyncio.timeout(METRICS_TIMEOUT):
                return await answer
        except TimeoutError:
            raise EngineDead("The engine did not answer in time.") from None
        finally:
            del self._queries[query.query_id]

    def close(self, message: str) -> None:
        """End every live request with an error and take no more."""
        self.closing = self._closed = True
        self._fail_all(message)

    async def drained(self) -> None:
        """Wait until what was posted has been sent, and the last counts."""
        with contextlib.suppress(Exception):
            await asyncio.gather(*self._sending)
            await self._tell_counts()

    async def _tell_counts(self) -> None:
        if self._epoch is not None:
            await self._spoke.send(HttpCounts(self.http.counts(), self._epoch))

    def receive(self, message: ToFrontend) -> None:
        match message:
            case Outputs():
                self._last_outputs = time.monotonic()
                self._delivery.take(message)
            case EngineStats():
                self._note(message)
            case PageText():
                _, answer = self._queries.get(message.query_id, (None, None))
                if answer is not None and not answer.done():
                    answer.set_result(message.text)

    def flush(self) -> None:
        """Tell the readers of what has come, once for all messages that had arrived."""
        self._delivery.flush()

    def _note(self, stats: EngineStats) -> None:
        self.stats = stats
        self._last_seen = self.awake()
        if self._epoch is not None and stats.epoch != self._epoch:
            self.http.start_over()
            self._resubmit()
        else:
            self.http.heard()
        self._epoch = stats.epoch
        if stats.epoch != self._answering and not stats.degraded:
            self._answering = stats.epoch
            self._ask_again()

    def _ask_again(self) -> None:
        """What died with another scheduler, or came when this one had no workers to tell of yet."""
        for query, _ in self._queries.values():
            self._post(self._spoke.send(query))

    def _resubmit(self) -> None:
        """Another scheduler, which knows of nothing."""
        log.warning("the scheduler is a new one: %d requests go on with it", len(self._live))
        for stream in self._live.values():
            if (submit := stream.resubmitted(self._last_outputs)) is not None:
                self._post(self._spoke.send(submit))

    async def _watch(self) -> None:
        """Signs of life to the engine, and an end to requests that it has forgotten."""
        while True:
            await self._spoke.send(Hello())
            await self._tell_counts()
            for _ in range(CHECKS_PER_HELLO):  # also to keep the clock that counts our own turns
                await asyncio.sleep(HELLO_INTERVAL / CHECKS_PER_HELLO)
                self._check()

    def _check(self) -> None:
        self.end_overdue()
        silence = self._silence()
        if self._live and silence > self._dead_seconds and self.told.state != "degraded":
            self._fail_all("The engine has stopped answering.")

    def end_overdue(self) -> None:
        """End what should have ended, which the engine would have said if it could."""
        latest = self._clock() - GRACE_SECONDS
        for stream in list(self._live.values()):
            if stream.submit is not None and 0.0 < stream.submit.until.end < latest:
                self._end([stream], "deadline_exceeded")
        self.flush()

    def _end(self, streams: Sequence[Stream], error: str, message: str | None = None) -> None:
        """With an error of ours; the engine is to stop them. Readers hear of it by `flush`."""
        live = self._forget(streams, "abort")
        for stream in streams:
            finished = stream.ended("error", error, message)
            stream.finish(finished)
            self._delivery.has_news(stream.inbox)
            if stream in live:
                self._delivery.trace(stream, finished)

    def _fail_all(self, message: str) -> None:
        self._end(list(self._live.values()), "engine_dead", message)
        self.flush()

    def _silence(self) -> float:
        return float("inf") if self._last_seen is None else self.awake() - self._last_seen

    def _post(self, sending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(sending)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
