"""EngineClient: the frontend's end of the line to the scheduler.

`submit` and `abort` go out; `run` takes Outputs apart and fills each request's Inbox. Request
ids on the wire are our own random 128 bits, never a client's. A scheduler that was started anew
is sent every live request again, with the tokens that have arrived: the streams go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, Protocol

from octavo.services.frontend.access import note_inbox
from octavo.services.frontend.http_counts import HttpCounter
from octavo.services.frontend.inbox import Inbox, Stream
from octavo.services.frontend.terms import Terms
from octavo.services.frontend.tracing import Tracer
from octavo.shared.errors import EngineDead
from octavo.shared.messages import (
    REQUEST_ID_BYTES,
    Abort,
    EngineStats,
    Finished,
    Hello,
    Outputs,
    PageQuery,
    PageText,
    Submit,
    ToFrontend,
    ToScheduler,
    pack,
    unpack,
)
from octavo.shared.pooling import PoolingParams
from octavo.shared.sampling import SamplingParams
from octavo.shared.text.logprobs import unpack_logprobs

log = logging.getLogger(__name__)

HEALTHY_SECONDS = 5.0
"""The scheduler reports every second; silent for longer than this, the engine is not healthy."""
DEAD_SECONDS = 60.0
"""Silent for longer than this, it is dead and its requests end."""
HELLO_INTERVAL = 1.0
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
    ) -> None:
        self._spoke = spoke
        self._clock = clock
        self._dead_seconds = dead_seconds
        self._epoch: int | None = None
        self._live: dict[bytes, Stream] = {}
        self._told: dict[Inbox, None] = {}
        """Inboxes with news that their readers have not been told of."""
        self._queries: dict[int, asyncio.Future[bytes]] = {}
        self._num_queries = 0
        self._last_seen: float | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self.http = HttpCounter()
        self.tracer: Tracer | None = None
        self.stats: EngineStats | None = None
        self.closing = False
        self.seen = asyncio.Event()
        """Set once the engine has reported for the first time."""

    @property
    def healthy(self) -> bool:
        """Whether the engine has given a sign of progress lately, and we are not stopping."""
        return not self.closing and self._silence() <= HEALTHY_SECONDS

    @property
    def serving(self) -> bool:
        """Whether requests are worked on now: not while the workers are away."""
        return self.healthy and self.stats is not None and not self.stats.degraded

    @property
    def state(self) -> str:
        """draining, engine_dead, degraded or ready."""
        if self.closing:
            return "draining"
        if not self.healthy:
            return "engine_dead"
        return "ready" if self.serving else "degraded"

    @property
    def num_live(self) -> int:
        """Sequences of this frontend that the engine still works on."""
        return len(self._live)

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
        request has none. Raises EngineDead when nobody would answer.
        """
        submits = [
            Submit(
                request_id=os.urandom(REQUEST_ID_BYTES),
                prompt_ids=pack(ids),
                sampling=sampling.for_choice(choice),
                arrival_time=time.monotonic(),
                priority=terms.priority,
                cache_salt=terms.cache_salt,
                tenant=terms.tenant,
                until=terms.until,
                quota=terms.quota,
                num_choices=sampling.n if choice == 0 else 0,
            )
            for ids, sampling in prompts
            for choice in range(sampling.n)
        ]
        return await self._start(submits, terms.traceparent)

    async def pool(
        self, prompts: Sequence[tuple[Sequence[int], PoolingParams]], terms: Terms
    ) -> Inbox:
        """Ask for the vector of each (prompt ids, parameters). Raises EngineDead."""
        submits = [
            Submit(
                request_id=os.urandom(REQUEST_ID_BYTES),
                prompt_ids=pack(ids),
                sampling=NOTHING_SAMPLED,
                arrival_time=time.monotonic(),
                priority=terms.priority,
                tenant=terms.tenant,
                until=terms.until,
                quota=terms.quota,
                pooling=params,
            )
            for ids, params in prompts
        ]
        return await self._start(submits, terms.traceparent)

    async def _start(self, submits: Sequence[Submit], traceparent: str) -> Inbox:
        if self.closing:
            raise EngineDead("The server is shutting down.")
        if not self.healthy:
            raise EngineDead("The engine is not running.")
        inbox = Inbox([submit.request_id for submit in submits])
        for stream, submit in zip(inbox.streams, submits, strict=True):
            stream.submit, stream.traceparent = submit, traceparent
        note_inbox(inbox)
        self._live |= {stream.request_id: stream for stream in inbox.streams}
        try:
            for submit in submits:
                await self._spoke.send(submit)
        except BaseException:
            self.abort(inbox.streams)
            raise
        return inbox

    def abort(self, streams: Sequence[Stream]) -> None:
        """Forget these sequences and have the engine stop those it still works on."""
        ids = [s.request_id for s in streams if self._live.pop(s.request_id, None) is not None]
        if ids:
            self._post(self._spoke.send(Abort(request_ids=ids)))

    async def page(self, page: Literal["metrics", "snapshot"]) -> bytes:
        """What the scheduler shows operators. Raises EngineDead after a timeout."""
        self._num_queries += 1
        query = self._num_queries
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._queries[query] = answer
        try:
            await self._spoke.send(self.http.message())
            await self._spoke.send(PageQuery(query_id=query, page=page))
            async with asyncio.timeout(METRICS_TIMEOUT):
                return await answer
        except TimeoutError:
            raise EngineDead("The engine did not answer in time.") from None
        finally:
            del self._queries[query]

    def close(self, message: str) -> None:
        """End every live request with an error and take no more."""
        self.closing = True
        self._fail_all(message)

    async def drained(self) -> None:
        """Wait until what was posted has been sent."""
        with contextlib.suppress(Exception):
            await asyncio.gather(*self._sending)

    def receive(self, message: ToFrontend) -> None:
        match message:
            case Outputs():
                self._deliver(message)
            case EngineStats():
                self._note(message)
            case PageText():
                answer = self._queries.get(message.query_id)
                if answer is not None and not answer.done():
                    answer.set_result(message.text)

    def _note(self, stats: EngineStats) -> None:
        self.stats = stats
        self._last_seen = self._clock()
        self.seen.set()
        if self._epoch is not None and stats.epoch != self._epoch:
            self._resubmit()
        self._epoch = stats.epoch

    def _resubmit(self) -> None:
        """Another scheduler, which knows of nothing."""
        log.warning("the scheduler is a new one: %d requests go on with it", len(self._live))
        for stream in self._live.values():
            if (submit := stream.resubmitted()) is not None:
                self._post(self._spoke.send(submit))

    def _deliver(self, outputs: Outputs) -> None:
        """Hand one step's columns to the streams. A reader never sees half of a message."""
        for started in outputs.started:
            if (stream := self._live.get(started.request_id)) is not None:
                stream.cached_tokens = started.cached_tokens
        for prompt in outputs.prompt_logprobs:
            if (stream := self._live.get(prompt.request_id)) is not None:
                entries = unpack_logprobs(prompt.values)
                stream.prompt_logprobs |= dict(enumerate(entries, prompt.start))
        self._deliver_tokens(outputs)
        for pooled in outputs.pooled:
            if (stream := self._live.get(pooled.request_id)) is not None:
                stream.vector = pooled.vector
        for finished in outputs.finished:
            if (stream := self._live.pop(finished.request_id, None)) is not None:
                stream.finish(finished)
                if self.tracer is not None:
                    self.tracer.note(stream, finished)
                self._told[stream.inbox] = None

    def _deliver_tokens(self, outputs: Outputs) -> None:
        values, places = outputs.logprobs, {}
        if values is not None:
            places = {row: i for i, row in enumerate(unpack(outputs.logprob_rows).tolist())}
        ids, size = outputs.request_ids, REQUEST_ID_BYTES
        for row, token_id in enumerate(unpack(outputs.token_ids).tolist()):
            stream = self._live.get(ids[row * size : (row + 1) * size])
            if stream is not None:
                if values is not None and row in places:
                    stream.add_logprobs(values, places[row])
                stream.add_token(token_id)
                self._told[stream.inbox] = None

    def flush(self) -> None:
        """Tell the readers of what has come, once for all messages that had arrived."""
        told, self._told = self._told, {}
        for inbox in told:
            try:
                inbox.flush()
                if inbox.has_news and inbox.is_flooded:
                    self.abort(inbox.streams)
                    inbox.give_up()
            except Exception:  # one request's trouble must not end the line that all hear by
                log.exception("a reader failed")
                self.abort(inbox.streams)
                inbox.cancel()

    async def _watch(self) -> None:
        """Signs of life to the engine, and an end to requests that it has forgotten."""
        while True:
            await self._spoke.send(Hello())
            await self._spoke.send(self.http.message())
            await asyncio.sleep(HELLO_INTERVAL)
            if self._live and self._silence() > self._dead_seconds:
                self._fail_all("The engine has stopped answering.")

    def _fail_all(self, message: str) -> None:
        live, self._live = self._live, {}
        for request_id, stream in live.items():
            stream.finish(
                Finished(
                    request_id=request_id, reason="error", error="engine_dead", message=message
                )
            )
            stream.inbox.flush()
        if live:
            self._post(self._spoke.send(Abort(request_ids=list(live))))

    def _silence(self) -> float:
        return float("inf") if self._last_seen is None else self._clock() - self._last_seen

    def _post(self, sending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(sending)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
