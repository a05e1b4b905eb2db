"""Inbox: everything the engine says about one HTTP request, collected until it is read.

Tokens that arrive while the reader is busy (a slow socket) pile up per sequence and are taken
together: the first token goes out at once, later ones coalesce by themselves. They are kept as the
engine sent them and taken a little at a time, so that a client which reads slowly costs little;
one that leaves more than KEPT_BYTES of a sequence unread is given up.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Mapping, Sequence

import msgspec

from octavo.services.frontend.unread import UnreadLogprobs
from octavo.shared.messages import (
    FURTHER,
    NOT_BEGUN,
    Finished,
    FinishReason,
    Logprobs,
    Submit,
    Until,
    pack,
)
from octavo.shared.text.logprobs import TokenLogprob

ID_BYTES = 4
KEPT_BYTES = 1 << 20
"""Of one sequence. With 20 alternatives a token it is 5,000 tokens, else 32,000."""
TAKEN_BYTES = 8192
"""Of one sequence at a time. Written, it is up to fifteen times as long, and then waits whole."""
TOKEN_BYTES = 32
"""An int in a list."""


class ClientGone(Exception):
    """The client has closed the connection; nobody is left to answer."""


class Piece(msgspec.Struct):
    """What one sequence brought since it was last read."""

    token_ids: list[int] = []
    logprobs: list[TokenLogprob] = []
    finished: Finished | None = None


class Stream:
    """One sequence of a request, as the engine fills it; and its journal, all that another
    scheduler needs to go on with it."""

    def __init__(self, request_id: bytes, inbox: Inbox) -> None:
        self.request_id = request_id
        self.submit: Submit | None = None
        """What the engine was asked; None: nothing."""
        self.trace: Mapping[str, str] = {}
        """As in Terms."""
        self.num_replays = 0
        """How often another scheduler went on with it."""
        self.first_at = 0.0
        """When its first token came, by time.monotonic(); 0: none has."""
        self._token_ids = array("i")
        self._unread: list[int] = []
        self._logprobs: UnreadLogprobs | None = None
        self._finished: Finished | None = None
        self._survived = self._safe_len = 0
        """Schedulers that have died since it last got FURTHER, which it has at this length."""
        self.admitted = False
        """It has run, so that its time in the queue is over."""
        self.cached_tokens = 0
        self.begun = NOT_BEGUN
        self.prompt_logprobs: dict[int, TokenLogprob] = {}
        """By position in the prompt; the first token has none."""
        self.vector = b""
        """float32[d], of a request that pools; there once it has finished."""
        self.inbox = inbox
        self._due = 1
        """How many tokens are worth waking the reader; the first always is."""

    @property
    def num_output_tokens(self) -> int:
        """Of the engine; what stands behind a stop string is among them."""
        return len(self._token_ids)

    def resubmitted(self, last_token: float) -> Submit | None:
        """The request as it stands: what is left of it is what has not arrived. `last_token`: when
        tokens last came."""
        if self.submit is None:
            return None
        self.num_replays += 1
        if len(self._token_ids) >= self._safe_len:
            self._survived = 0
        self._survived += 1
        self._safe_len = len(self._token_ids) + FURTHER
        begun = msgspec.structs.replace(self.begun, token=last_token)
        return msgspec.structs.replace(
            self.submit,
            output_ids=pack(self._token_ids),
            prompt_logprobs_end=max(self.prompt_logprobs, default=-1) + 1,
            begun=begun if self._token_ids else NOT_BEGUN,
            survived=self._survived,
            until=self._until(self.submit.until),
        )

    def ended(
        self, reason: FinishReason, error: str | None = None, message: str | None = None
    ) -> Finished:
        """What the engine would say had it ended the sequence."""
        return Finished(
            request_id=self.request_id,
            reason=reason,
            error=error,
            message=message,
            admitted_time=self.begun.admitted,
            first_token_time=self.begun.first_token,
        )

    def _until(self, until: Until) -> Until:
        """What has been reached in time is not to be reached again."""
        if self._token_ids:
            return Until(end=until.end)
        return msgspec.structs.replace(until, queue=0.0) if self.admitted else until

    @property
    def is_flooded(self) -> bool:
        """More is unread than is kept."""
        return len(self._unread) * self._token_bytes > KEPT_BYTES

    @property
    def _token_bytes(self) -> int:
        return TOKEN_BYTES + (0 if self._logprobs is None else self._logprobs.token_bytes)

    def add_token(self, token_id: int) -> None:
        if not self.first_at:
            self.first_at = time.monotonic()
            self.inbox.first_at = self.inbox.first_at or self.first_at
        self._token_ids.append(token_id)
        self._unread.append(token_id)
        if len(self._unread) >= self._due:
            self.inbox.mark(self)

    def add_logprobs(self, values: Logprobs, row: int) -> None:
        """Of the token that is added next."""
        if self._logprobs is None:
            k = 0 if self.submit is None else self.submit.sampling.logprobs or 0
            self._logprobs = UnreadLogprobs(k + 1)
        self._logprobs.add(values, row)

    def finish(self, finished: Finished) -> None:
        self._finished = finished
        self.inbox.mark(self)

    def take(self) -> Piece:
        """The first of what is unread; the end comes with the last of it."""
        self._due = self.inbox.interval
        if self._logprobs is None and len(self._unread) <= TAKEN_BYTES // TOKEN_BYTES:
            token_ids, self._unread = self._unread, []
            return Piece(token_ids, [], self._finished)
        count = TAKEN_BYTES // self._token_bytes
        token_ids, self._unread = self._unread[:count], self._unread[count:]
        if self._unread:
            self.inbox.mark(self)
        logprobs = [] if self._logprobs is None else self._logprobs.take(count)
        return Piece(token_ids, logprobs, None if self._unread else self._finished)


class Inbox:
    """The streams of one HTTP request, in the order of its choices. One reader.

    `interval`: a sequence's tokens behind its first are handed over this many at a time.
    """

    def __init__(self, request_ids: Sequence[bytes], name: str = "") -> None:
        self.name = name
        """The HTTP request's id."""
        self.streams = [Stream(request_id, self) for request_id in request_ids]
        self._index = {stream: i for i, stream in enumerate(self.streams)}
        self._ready: dict[Stream, None] = {}
        self._waiter: asyncio.Future[None] | None = None
        self.interval = 1
        self.on_news: Callable[[], None] | None = None
        """Called, instead of waking the reader, when there is something to take."""
        self.on_flood: Callable[[], None] | None = None
        """Called when a client leaves too much unread."""
        self._gone = False
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self.first_at: float | None = None
        """When the engine's first token came, by time.monotonic()."""

    @property
    def has_news(self) -> bool:
        """Whether there is something to take."""
        return bool(self._ready)

    @property
    def is_flooded(self) -> bool:
        return any(stream.is_flooded for stream in self._ready)

    @property
    def num_prompt_tokens(self) -> int:
        """Each prompt once, however many choices it has."""
        submits = [stream.submit for stream in self.streams if stream.submit is not None]
        counted = [submit for submit in submits if submit.num_choices or submit.pooling]
        return sum(len(submit.prompt_ids) // ID_BYTES for submit in counted)

    @property
    def num_output_tokens(self) -> int:
        return sum(stream.num_output_tokens for stream in self.streams)

    def mark(self, stream: Stream) -> None:
        """Note that a stream has something to read; `flush` tells the reader."""
        self._ready[stream] = None

    def flush(self) -> None:
        """All that a message brought is here."""
        if self._ready:
            self._wake()

    def give_up(self) -> None:
        """The client leaves too much unread."""
        if self.on_flood is not None:
            self.on_flood()
        self.cancel()

    def cancel(self) -> None:
        """The client is gone: the reader gets ClientGone."""
        self._gone = True
        self._wake()

    async def next(self, timeout: float | None = None) -> list[tuple[int, Piece]]:
        """(choice, piece) of every stream with news; waits for some, empty after `timeout` s."""
        await self.wait(timeout)
        return self.take()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until there is something to take, or `take` raises; False after `timeout` s."""
        if not self._ready and not self._gone:
            await self._wait(timeout)
        return bool(self._ready) or self._gone

    def take(self) -> list[tuple[int, Piece]]:
        """What is there, or the first of much. Raises ClientGone."""
        if self._gone:
            raise ClientGone
        ready, self._ready = self._ready, {}
        return [(self._index[stream], stream.take()) for stream in ready]

    def close(self) -> None:
        """Nobody reads any more."""
        if self._timer is not None:
            self._timer.cancel()

    async def _wait(self, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        if timeout is not None:
            # One timer that is moved on when it fires early, not one a token.
            self._deadline = loop.time() + timeout
            if self._timer is None:
                self._timer = loop.call_at(self._deadline, self._expire, loop)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if loop.time() >= self._deadline:
            self._wake()
        else:
            self._timer = loop.call_at(self._deadline, self._expire, loop)

    def _wake(self) -> None:
        if self.on_news is not None:
            self.on_news()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
