"""Pump: what a generation brings, as events, without waiting."""

from __future__ import annotations

import logging

from msgspec import UNSET, UnsetType

from octavo.services.frontend.events import ChunkWriter
from octavo.services.frontend.generation import Generation
from octavo.services.frontend.inbox import ClientGone
from octavo.services.frontend.replies import Usage
from octavo.services.frontend.schema import StreamOptions
from octavo.shared.errors import OctavoError
from octavo.shared.text.output import Delta

log = logging.getLogger(__name__)


class Pump:
    """`over`: what was taken last was the end; an error is one too."""

    def __init__(
        self, generation: Generation, writer: ChunkWriter, options: StreamOptions | None
    ) -> None:
        self._generation = generation
        self._writer = writer
        self._options = options or StreamOptions()
        self._started_choices: set[int] = set()
        generation.keep_no_logprobs()
        self.over = False

    @property
    def has_more(self) -> bool:
        """Whether `take` would bring anything now."""
        return not self.over and self._generation.has_news

    async def begin(self, timeout: float) -> list[bytes]:
        """The first events; nothing after `timeout` seconds. Raises what is wrong at the start."""
        return self._events(await self._generation.next(timeout))

    def take(self) -> list[bytes]:
        """The events of what has come in, often none. Raises ClientGone."""
        try:
            return self._events(self._generation.take())
        except OctavoError as error:
            return self._failed(error)
        except ClientGone:
            raise
        except Exception:
            log.exception("a stream failed")
            return self._failed(OctavoError(""))

    def _failed(self, error: OctavoError) -> list[bytes]:
        self.over = True
        return self._writer.error(error)

    def _events(self, news: list[tuple[int, Delta]]) -> list[bytes]:
        events = [one for index, delta in news for one in self._chunk(index, delta)]
        if self._generation.done:
            self.over = True
            usage = self._generation.usage() if self._options.include_usage else None
            events += self._writer.ending(usage)
        return events

    def _chunk(self, index: int, delta: Delta) -> list[bytes]:
        first = index not in self._started_choices
        finished = self._generation.outputs[index].finish_reason is not None
        if not (delta.text or first or finished or self._writer.wants_every_token):
            return []
        self._started_choices.add(index)
        return self._writer.chunk(index, delta, first, self._usage())

    def _usage(self) -> Usage | UnsetType | None:
        """On every chunk where asked for; null where only the last chunk carries it."""
        if not self._options.include_usage:
            return UNSET
        return self._generation.usage() if self._options.continuous_usage_stats else None
