"""Helper: the frontend's end of one grammar helper process (`services/grammar`)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process

import msgspec

from octavo.shared.grammar.helper import LENGTH, MAX_FRAME, HelperConfig, Verdict, frame
from octavo.shared.grammar.spec import GrammarSpec

COMMAND = (sys.executable, "-P", "-m", "octavo.services.grammar")
LOAD_SECONDS = 60.0
WALL_FACTOR = 4.0
"""Time on the clock for each second of processor time, on a machine that is busy."""


class HelperDied(Exception):
    """It was killed, or ran over its limits, before it answered; `slow`: it was out of time."""

    def __init__(self, how: str, slow: bool = False) -> None:
        super().__init__(how)
        self.slow = slow


class Helper:
    """Starts with its first question. After HelperDied the next question starts another one."""

    def __init__(self, config: HelperConfig, command: tuple[str, ...] = COMMAND) -> None:
        self._config = config
        self._command = command
        self._process: Process | None = None
        self.asking = False
        """Whether a grammar is with it."""

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Raises HelperDied."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, "--parent", str(os.getpid()), stdin=PIPE, stdout=PIPE
        )
        verdict = await self._ask(self._config, LOAD_SECONDS)
        if verdict.error:
            await self.stop()
            raise HelperDied(verdict.error)

    async def ask(self, spec: GrammarSpec) -> Verdict:
        """Raises HelperDied."""
        if self._process is None:
            await self.start()
        self.asking = True
        try:
            return await self._ask(spec, self._config.cpu_seconds * WALL_FACTOR)
        finally:
            self.asking = False

    async def stop(self) -> None:
        """Kill and reap it."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _ask(self, message: GrammarSpec | HelperConfig, seconds: float) -> Verdict:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise HelperDied("it does not run")
        try:
            async with asyncio.timeout(seconds):
                process.stdin.write(frame(message))
                await process.stdin.drain()
                return await _read_verdict(process.stdout)
        except TimeoutError:
            await self.stop()
            raise HelperDied("it did not answer in time", slow=True) from None
        except (OSError, EOFError, msgspec.DecodeError) as error:
            await self.stop()
            raise HelperDied(f"exit {process.returncode}", _out_of_time(process)) from error
        except BaseException:
            await self.stop()  # cancelled in the middle: its next answer would be the wrong one
            raise


async def _read_verdict(stream: asyncio.StreamReader) -> Verdict:
    (size,) = LENGTH.unpack(await stream.readexactly(LENGTH.size))
    if size > MAX_FRAME:
        raise EOFError
    return msgspec.msgpack.decode(await stream.readexactly(size), type=Verdict)


def _out_of_time(process: Process) -> bool:
    return process.returncode == -signal.SIGPROF
