"""GrammarCompiler: whether a grammar can be used, found out at a safe distance.

`check` compiles in a helper process; verdicts, bad ones too, are remembered by bytes. A grammar
that kills its helper twice, or runs it out of time once, is the client's error. Tenants take turns,
so that one who sends such grammars all the time costs another the time of one. There are two
helpers, so that one such grammar holds up nobody; a helper that dies has no turn until it is up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from octavo.services.frontend.grammar_helper import GrammarHelper
from octavo.services.frontend.helper import HelperDied, HelperLost
from octavo.services.frontend.turns import Turns
from octavo.shared.errors import ConfigError, InvalidRequest, Overloaded
from octavo.shared.grammar.cache import ByteCache
from octavo.shared.grammar.compiling import TOO_COMPLEX
from octavo.shared.grammar.helper import HelperConfig, Verdict
from octavo.shared.grammar.spec import GrammarSpec

log = logging.getLogger(__name__)

CACHE_BYTES = 16 << 20
ENTRY_BYTES = 512
"""Of an entry beside its texts."""
HELPERS = 2
MAX_WAITING = 64
MAX_WAITING_EACH = 16
"""Of one tenant."""
TOO_MANY = "Too many new grammars at once; try again soon."
WAIT_SECONDS = 10.0
"""For a helper that is free."""


class GrammarCompiler:
    """One for each frontend; `start` is optional and spares the first request the wait."""

    def __init__(
        self,
        helpers: Sequence[GrammarHelper],
        *,
        max_waiting: int = MAX_WAITING,
        max_waiting_each: int = MAX_WAITING_EACH,
        wait_seconds: float = WAIT_SECONDS,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._helpers = helpers
        self._turns = Turns(helpers)
        self._max_waiting = max_waiting
        self._max_waiting_each = max_waiting_each
        self._wait_seconds = wait_seconds
        self._known: ByteCache[GrammarSpec, Verdict] = ByteCache(cache_bytes, _verdict_bytes)
        self._running: dict[tuple[str, GrammarSpec], asyncio.Task[Verdict]] = {}
        self._reviving: set[asyncio.Task[None]] = set()

    @classmethod
    def of(cls, config: HelperConfig, helpers: int = HELPERS) -> GrammarCompiler:
        return cls([GrammarHelper(config) for _ in range(helpers)])

    async def start(self) -> None:
        """Start the helpers. One that will not start is tried again with the first grammar."""
        await asyncio.gather(*map(_start_quietly, self._helpers))

    async def close(self) -> None:
        tasks = [*self._running.values(), *self._reviving]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for helper in self._helpers:
            await helper.stop()

    async def check(self, spec: GrammarSpec, param: str, tenant: str = "") -> GrammarSpec:
        """The grammar as matchers take it, compiled once to be sure, in `tenant`'s turn.

        Raises InvalidRequest, naming `param`, for one that cannot be used, and Overloaded when too
        many wait for their turn.
        """
        if (verdict := self._known.get(spec)) is None:
            # One task for all of a tenant's that ask the same; whoever leaves takes nothing along.
            verdict = await asyncio.shield(self._task(spec, tenant))
        if verdict.spec is None:
            raise InvalidRequest(f"{param} cannot be used: {verdict.error}.", param=param)
        return verdict.spec

    def _task(self, spec: GrammarSpec, tenant: str) -> asyncio.Task[Verdict]:
        if (task := self._running.get((tenant, spec))) is None:
            full = len(self._running) >= self._max_waiting + len(self._helpers)
            if full or self._turns.num_waiting(tenant) >= self._max_waiting_each:
                raise Overloaded(TOO_MANY)
            task = asyncio.create_task(self._judge(spec, tenant))
            self._running[tenant, spec] = task
            task.add_done_callback(lambda done: self._running.pop((tenant, spec), None))
            task.add_done_callback(_retrieve)
        return task

    async def _judge(self, spec: GrammarSpec, tenant: str) -> Verdict:
        try:
            async with asyncio.timeout(self._wait_seconds):
                helper = await self._turns.take(tenant)
        except TimeoutError:
            raise Overloaded(TOO_MANY) from None
        try:
            if (verdict := self._known.get(spec)) is None:  # else another's turn was the same
                verdict = await _verdict_of(helper, spec)
        finally:
            self._release(tenant, helper)
        self._known.put(spec, verdict)
        return verdict

    def _release(self, tenant: str, helper: GrammarHelper) -> None:
        if helper.pid is not None:
            self._turns.give_back(tenant, helper)
            return
        task = asyncio.create_task(_start_quietly(helper))
        self._reviving.add(task)
        task.add_done_callback(self._reviving.discard)
        task.add_done_callback(lambda done: self._turns.give_back(tenant, helper))


async def _start_quietly(helper: GrammarHelper) -> None:
    try:
        await helper.start()
    except (HelperDied, ConfigError) as error:
        log.warning("a grammar helper did not start: %s", error)


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
    except ConfigError as error:
        raise InvalidRequest(str(error)) from None


def _verdict_bytes(spec: GrammarSpec, verdict: Verdict) -> int:
    answer = 0 if verdict.spec is None or verdict.spec == spec else len(verdict.spec.text)
    return ENTRY_BYTES + 2 * (len(spec.text) + answer + len(verdict.error or ""))


def _retrieve(task: asyncio.Task[Verdict]) -> None:
    """Everybody who asked may have left: then nobody else looks at the error."""
    if not task.cancelled():
        task.exception()
