"""GrammarCompiler: whether a grammar can be used, found out at a safe distance.

`check` compiles in a helper process; verdicts, bad ones too, are remembered by bytes. A grammar
that kills its helper twice, or runs it out of time once, is the client's error.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from octavo.services.frontend.grammar_helper import GrammarHelper
from octavo.services.frontend.helper import HelperDied, HelperLost
from octavo.shared.errors import InvalidRequest, Overloaded
from octavo.shared.grammar.cache import ByteCache
from octavo.shared.grammar.compiling import TOO_COMPLEX
from octavo.shared.grammar.helper import HelperConfig, Verdict
from octavo.shared.grammar.spec import GrammarSpec

log = logging.getLogger(__name__)

CACHE_BYTES = 16 << 20
ENTRY_BYTES = 512
"""Of an entry beside its texts."""
MAX_WAITING = 64
WAIT_SECONDS = 10.0
"""For a helper that is free."""


class GrammarCompiler:
    """One for each frontend; `start` is optional and spares the first request the wait."""

    def __init__(
        self,
        helpers: Sequence[GrammarHelper],
        *,
        max_waiting: int = MAX_WAITING,
        wait_seconds: float = WAIT_SECONDS,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._helpers = helpers
        self._idle: asyncio.Queue[GrammarHelper] = asyncio.Queue()
        for helper in helpers:
            self._idle.put_nowait(helper)
        self._max_waiting = max_waiting
        self._wait_seconds = wait_seconds
        self._known: ByteCache[GrammarSpec, Verdict] = ByteCache(cache_bytes, _verdict_bytes)
        self._running: dict[GrammarSpec, asyncio.Task[Verdict]] = {}

    @classmethod
    def of(cls, config: HelperConfig, helpers: int = 1) -> GrammarCompiler:
        return cls([GrammarHelper(config) for _ in range(helpers)])

    async def start(self) -> None:
        """Start the helpers. One that will not start is tried again with the first grammar."""
        for helper in self._helpers:
            try:
                await helper.start()
            except HelperDied as died:
                log.warning("a grammar helper did not start: %s", died)

    async def close(self) -> None:
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        for helper in self._helpers:
            await helper.stop()

    async def check(self, spec: GrammarSpec, param: str) -> GrammarSpec:
        """The grammar as matchers take it, compiled once to be sure.

        Raises InvalidRequest, naming `param`, for one that cannot be used, and Overloaded when too
        many wait for their turn.
        """
        if (verdict := self._known.get(spec)) is None:
            # One task for all that ask the same; a client that leaves takes nothing with it.
            verdict = await asyncio.shield(self._task(spec))
        if verdict.spec is None:
            raise InvalidRequest(f"{param} cannot be used: {verdict.error}.", param=param)
        return verdict.spec

    def _task(self, spec: GrammarSpec) -> asyncio.Task[Verdict]:
        if (task := self._running.get(spec)) is None:
            if len(self._running) >= self._max_waiting + len(self._helpers):
                raise Overloaded("Too many new grammars at once; try again soon.")
            task = asyncio.create_task(self._judge(spec))
            self._running[spec] = task
            task.add_done_callback(lambda done: self._running.pop(spec, None))
            task.add_done_callback(_retrieve)
        return task

    async def _judge(self, spec: GrammarSpec) -> Verdict:
        try:
            async with asyncio.timeout(self._wait_seconds):
                helper = await self._idle.get()
        except TimeoutError:
            raise Overloaded("Too many new grammars at once; try again soon.") from None
        try:
            verdict = await _verdict_of(helper, spec)
        finally:
            self._idle.put_nowait(helper)
        self._known.put(spec, verdict)
        return verdict


async def _verdict_of(helper: GrammarHelper, spec: GrammarSpec) -> Verdict:
    """Ask; a helper that died of something else than time gets a second try, for it may have been
    killed from outside."""
    for _ in range(2):
        try:
            return await _asked(helper, spec)
        except HelperDied as died:
            log.warning("a grammar helper died: %s", died)
            if died.slow:
                break
    return Verdict(error=TOO_COMPLEX)


async def _asked(helper: GrammarHelper, spec: GrammarSpec) -> Verdict:
    while True:
        if helper.pid is None:
            await _started(helper)
        with contextlib.suppress(HelperLost):
            return await helper.ask(spec)


async def _started(helper: GrammarHelper) -> None:
    """A helper that does not start is our fault, not the grammar's."""
    try:
        await helper.start()
    except HelperDied as died:
        log.error("a grammar helper does not start: %s", died)
        raise Overloaded("Structured output is not available now; try again soon.") from died


def _verdict_bytes(spec: GrammarSpec, verdict: Verdict) -> int:
    answer = 0 if verdict.spec is None or verdict.spec == spec else len(verdict.spec.text)
    return ENTRY_BYTES + 2 * (len(spec.text) + answer + len(verdict.error or ""))


def _retrieve(task: asyncio.Task[Verdict]) -> None:
    """Everybody who asked may have left: then nobody else looks at the error."""
    if not task.cancelled():
        task.exception()
