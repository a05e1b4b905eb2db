"""Delivery: what the engine says, taken apart and handed to each request.

What goes wrong with one request's part ends that request, and nobody else's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from octavo.services.frontend.inbox import Inbox, Stream
from octavo.services.frontend.tracing import Tracer
from octavo.shared.log import frames
from octavo.shared.messages import (
    REQUEST_ID_BYTES,
    Finished,
    Outputs,
    PooledOutput,
    PromptLogprobsOutput,
    Started,
    unpack,
)
from octavo.shared.text.logprobs import unpack_logprobs

log = logging.getLogger(__name__)


class Part(Protocol):
    """Of a message: what concerns one request."""

    @property
    def request_id(self) -> bytes: ...


P = TypeVar("P", bound=Part)


class Delivery:
    """`live`: the streams by their ids; who has finished is taken out. `give_up`: asked to end
    streams with an error, and to have the engine stop them; `abort`: to forget those that nobody
    reads."""

    def __init__(
        self,
        live: dict[bytes, Stream],
        give_up: Callable[[Sequence[Stream], str], None],
        abort: Callable[[Sequence[Stream]], None],
    ) -> None:
        self._live = live
        self._give_up = give_up
        self._abort = abort
        self._told: dict[Inbox, None] = {}
        """Inboxes with news that their readers have not been told of."""
        self.tracer: Tracer | None = None

    def take(self, outputs: Outputs) -> None:
        """Hand one step's columns to the streams. A reader never sees half of a message."""
        try:
            self._take(outputs)
        except Exception as error:  # the message as a whole: none of those in it can go on
            log.error("a message of the engine is wrong\n%s", frames(error))
            for stream in self._named(outputs):
                self._end(stream)

    def _take(self, outputs: Outputs) -> None:
        for request_id in outputs.admitted:
            if (stream := self._live.get(request_id)) is not None:
                stream.admitted = True
        self._each(outputs.started, _start)
        self._each(outputs.prompt_logprobs, _add_prompt_logprobs)
        self._take_tokens(outputs)
        self._each(outputs.pooled, _add_vector)
        self._each(outputs.finished, self._finish)

    def _take_tokens(self, outputs: Outputs) -> None:
        values, places = outputs.logprobs, {}
        if values is not None:
            places = {row: i for i, row in enumerate(unpack(outputs.logprob_rows).tolist())}
        token_ids = unpack(outputs.token_ids).tolist()
        for row, request_id in enumerate(_request_ids(outputs)):
            if (stream := self._live.get(request_id)) is not None:
                try:
                    if values is not None and row in places:
                        stream.add_logprobs(values, places[row])
                    stream.add_token(token_ids[row])
                except Exception as error:
                    self._fail(stream, error)
                self._told[stream.inbox] = None

    def _each(self, parts: Iterable[P], take: Callable[[Stream, P], None]) -> None:
        for part in parts:
            if (stream := self._live.get(part.request_id)) is not None:
                try:
                    take(stream, part)
                except Exception as error:
                    self._fail(stream, error)

    def _finish(self, stream: Stream, finished: Finished) -> None:
        stream.finish(finished)
        del self._live[finished.request_id]
        self._told[stream.inbox] = None
        self.trace(stream, finished)

    def trace(self, stream: Stream, finished: Finished) -> None:
        """It has ended; what goes wrong with its span is nobody's concern."""
        if self.tracer is not None:
            try:
                self.tracer.note(stream, finished)
            except Exception as error:
                log.error("a request's span is lost\n%s", frames(error))

    def _fail(self, stream: Stream, error: Exception) -> None:
        log.error("request %s failed here\n%s", stream.request_id.hex(), frames(error))
        self._end(stream)

    def _end(self, stream: Stream) -> None:
        try:
            self._give_up([stream], "internal_error")
        except Exception:
            _cancel(stream.inbox)

    def _named(self, outputs: Outputs) -> list[Stream]:
        """Those that would not get all that is theirs."""
        parts: tuple[Part, ...] = (*outputs.prompt_logprobs, *outputs.pooled, *outputs.finished)
        ids = dict.fromkeys([*_request_ids(outputs), *(part.request_id for part in parts)])
        return [stream for one in ids if (stream := self._live.get(one)) is not None]

    def has_news(self, inbox: Inbox) -> None:
        """Its reader is told by `flush`."""
        self._told[inbox] = None

    def flush(self) -> None:
        told, self._told = self._told, {}
        for inbox in told:
            try:
                inbox.flush()
                if inbox.has_news and inbox.is_flooded:
                    self._abort(inbox.streams)
                    inbox.give_up()
            except Exception as error:
                log.error("a reader failed\n%s", frames(error))
                self._dismiss(inbox)

    def _dismiss(self, inbox: Inbox) -> None:
        """What its reader wrote to is broken: there is nobody to answer."""
        for stream in inbox.streams:
            if stream.request_id in self._live:
                self._end(stream)
        self._told.pop(inbox, None)
        _cancel(inbox)


def _cancel(inbox: Inbox) -> None:
    try:
        inbox.cancel()
    except Exception:  # even that is too much for its reader
        inbox.on_news = None
        inbox.cancel()


def _request_ids(outputs: Outputs) -> Iterator[bytes]:
    """Of the rows with a token."""
    ids, size = outputs.request_ids, REQUEST_ID_BYTES
    return (ids[start : start + size] for start in range(0, len(ids), size))


def _start(stream: Stream, started: Started) -> None:
    stream.cached_tokens, stream.begun = started.cached_tokens, started.begun


def _add_prompt_logprobs(stream: Stream, prompt: PromptLogprobsOutput) -> None:
    entries = unpack_logprobs(prompt.values)
    stream.prompt_logprobs |= dict(enumerate(entries, prompt.start))


def _add_vector(stream: Stream, pooled: PooledOutput) -> None:
    stream.vector = pooled.vector
