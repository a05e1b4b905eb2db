"""TemplateRenderer: chat templates rendered at a safe distance.

In two helper processes (`services/templates`): one for what is small and of the model's own
template, which is all that most clients send; one for the rest, so that nobody's large chat or own
template keeps the others waiting. What runs a helper out of time once, or kills it twice, is the
client's error.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys

import msgspec

from octavo.services.frontend.helper import Helper, HelperBusy, HelperDied, HelperLost
from octavo.shared.errors import ConfigError, InvalidRequest, Overloaded, RequestFailed
from octavo.shared.text.template_job import Rendered, TemplateConfig, TemplateJob

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "octavo.services.templates")
WALL_SECONDS = 1.3
"""On the clock for one prompt, on a machine that is busy; an answer takes no longer than 1.5 s."""
QUICK_BYTES = 32 << 10
"""Jobs up to this size go to the quick helper: they take it a millisecond at most."""
QUICK_WAIT, LONG_WAIT = 1.4, 10.0
"""Seconds for one's turn and answer."""
AHEAD = 8
BROKEN_SECONDS = 10.0
"""After which a template that cannot be compiled is tried again."""
NICENESS = 5
"""Of the helper for what may take long: streams go before it."""
TOO_COSTLY = "The chat template takes too much time or memory for these messages."
NOT_NOW = "Too many chats to be made prompts of at once; try again soon."


class TemplateRenderer:
    """One for each frontend. `start` is optional, and spares the first requests the wait."""

    def __init__(self, config: TemplateConfig, command: tuple[str, ...] = COMMAND) -> None:
        gentle = msgspec.structs.replace(config, niceness=NICENESS)
        self._quick, self._slow = _Lane(config, command), _Lane(gentle, command)

    async def start(self) -> None:
        """Raises ConfigError where the model's template has an error in it."""
        with contextlib.suppress(RequestFailed):
            await self._quick.start()
            self._slow.revive()

    async def close(self) -> None:
        for lane in (self._quick, self._slow):
            await lane.close()

    async def render(self, job: TemplateJob) -> str:
        """Raises InvalidRequest; Overloaded when too many wait; RequestFailed where the model's
        own template cannot even be compiled."""
        body = msgspec.json.encode(job)
        quick = job.template is None and len(body) <= QUICK_BYTES
        lane, seconds = (self._quick, QUICK_WAIT) if quick else (self._slow, LONG_WAIT)
        try:
            rendered = await lane.rendered(body, asyncio.get_running_loop().time() + seconds)
        except (TimeoutError, HelperBusy):
            raise Overloaded(NOT_NOW) from None
        if rendered.error is not None:
            raise InvalidRequest(rendered.error, param=rendered.param)
        return rendered.text


class _Lane:
    """A helper, and what to do about its deaths."""

    def __init__(self, config: TemplateConfig, command: tuple[str, ...]) -> None:
        hello = msgspec.json.encode(config)
        self.helper = Helper(command, hello, WALL_SECONDS, load_seconds=LONG_WAIT, ahead=AHEAD)
        self._decoder = msgspec.json.Decoder(Rendered)
        self._broken_until = 0.0
        self._reviving: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._reviving is not None:
            self._reviving.cancel()
        await self.helper.stop()

    async def start(self) -> None:
        """Raises ConfigError, or RequestFailed for a helper that does not come up."""
        now = asyncio.get_running_loop().time()
        if now < self._broken_until:
            raise RequestFailed("The model's chat template cannot be used.")
        try:
            started = self._decoder.decode(await self.helper.start())
        except HelperDied as died:
            self._broken_until = now + BROKEN_SECONDS
            log.error("the chat template cannot be compiled within the limits: %s", died)
            raise RequestFailed("The model's chat template cannot be used.") from None
        if started.error is not None:
            raise ConfigError(started.error)

    async def rendered(self, body: bytes, deadline: float) -> Rendered:
        """Raises TimeoutError or HelperBusy where its turn does not come until `deadline`."""
        for _ in range(2):  # it may have been killed from outside
            try:
                return self._decoder.decode(await self._answer(body, deadline))
            except HelperDied as died:
                log.warning("a template helper died: %s", died)
                self.revive()
                if died.slow:
                    break
        return Rendered(error=TOO_COSTLY, param="messages")

    async def _answer(self, body: bytes, deadline: float) -> bytes:
        """However often others make it die."""
        while True:
            if self.helper.pid is None:
                async with asyncio.timeout_at(deadline):
                    await self.start()
            with contextlib.suppress(HelperLost):
                patience = deadline - asyncio.get_running_loop().time()
                return await self.helper.ask(body, patience)

    def revive(self) -> None:
        """Have the next one up before it is asked for."""
        if self.helper.pid is None:
            self._reviving = asyncio.create_task(self._start_quietly())

    async def _start_quietly(self) -> None:
        """The first request that needs it tells what is wrong."""
        with contextlib.suppress(RequestFailed, ConfigError):
            await self.start()
