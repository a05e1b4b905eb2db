"""GrammarHelper: the frontend's end of one grammar helper process (`services/grammar`)."""

from __future__ import annotations

import sys

import msgspec

from octavo.services.frontend.helper import Helper
from octavo.shared.errors import ConfigError
from octavo.shared.grammar.helper import HelperConfig, Verdict
from octavo.shared.grammar.spec import GrammarSpec

COMMAND = (sys.executable, "-P", "-m", "octavo.services.grammar")
WALL_FACTOR = 2.0
"""Time on the clock for each second of processor time, on a machine that is busy: 4 s in all."""


class GrammarHelper:
    def __init__(self, config: HelperConfig, command: tuple[str, ...] = COMMAND) -> None:
        hello = msgspec.msgpack.encode(config)
        self.process = Helper(command, hello, config.cpu_seconds * WALL_FACTOR)

    @property
    def pid(self) -> int | None:
        return self.process.pid

    async def start(self) -> None:
        """Raises HelperDied, or ConfigError for a model that cannot follow grammars."""
        verdict = _verdict(await self.process.start())
        if verdict.error:
            await self.process.stop()
            raise ConfigError(verdict.error)

    async def ask(self, spec: GrammarSpec) -> Verdict:
        """Raises HelperDied, HelperLost."""
        return _verdict(await self.process.ask(msgspec.msgpack.encode(spec)))

    async def stop(self) -> None:
        await self.process.stop()


def _verdict(body: bytes) -> Verdict:
    return msgspec.msgpack.decode(body, type=Verdict)
