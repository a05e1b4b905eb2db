"""Helper: the frontend's end of a process that does what might go wrong (`shared/helper`).

Questions are sent ahead, so that the process has the next one when it is done with the first. One
that is at a question for too long is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from dataclasses import dataclass
from typing import cast

from octavo.shared.environment import bare, environment
from octavo.shared.helper import LENGTH, MAX_FRAME, frame

LOAD_SECONDS = 60.0


class HelperDied(Exception):
    """It was killed, or ran over its limits, at this question; `slow`: it was out of time."""

    def __init__(self, how: str, slow: bool = False) -> None:
        super().__init__(how)
        self.slow = slow


class HelperBusy(Exception):
    """It did not come to this question in time."""


class HelperLost(Exception):
    """It ended before it came to this question, which may be asked again."""


@dataclass(frozen=True)
class _Question:
    frame: bytes
    seconds: float
    answer: asyncio.Future[bytes]


class Helper:
    """`hello`: the first question, which configures the process. `seconds`: on the clock, for any
    other. `ahead`: questions that it has at most; the others wait here, and whoever leaves leaves
    nothing behind."""

    def __init__(
        self,
        command: tuple[str, ...],
        hello: bytes,
        seconds: float,
        *,
        load_seconds: float = LOAD_SECONDS,
        ahead: int = 1,
    ) -> None:
        self._command = command
        self._hello = hello
        self._seconds = seconds
        self._load_seconds = load_seconds
        self._ahead = ahead
        self._life: _Life | None = None
        self._starting: asyncio.Task[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """None while it does not run, or is not ready."""
        return None if self._life is None or self._life.ended else self._life.pid

    @property
    def asked(self) -> int:
        """Questions that are with the process."""
        return 0 if self._life is None else len(self._life.asked)

    async def start(self) -> bytes:
        """The answer to `hello`; one start for all that want it. Raises HelperDied."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(self._started)
        return await asyncio.shield(self._starting)

    async def ask(self, body: bytes, patience: float | None = None) -> bytes:
        """The answer, within `patience` seconds. Raises HelperDied, HelperBusy, or HelperLost; then
        it has to be started again."""
        if self._life is None:
            raise HelperLost
        return await self._life.ask(body, self._seconds, patience)

    async def stop(self) -> None:
        """Kill and reap it."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        life, self._life = self._life, None
        if life is not None:
            await life.end()

    async def _start(self) -> bytes:
        life = _Life(self._ahead)
        argv = (*self._command, "--parent", str(os.getpid()))
        await asyncio.get_running_loop().subprocess_exec(
            lambda: life, *argv, stderr=None, env=bare(environment())
        )
        try:
            answer = await life.ask(self._hello, self._load_seconds, None)
        except HelperLost:
            raise HelperDied("it ended at once") from None
        except BaseException:
            await life.end()
            raise
        self._life = life
        return answer

    def _started(self, task: asyncio.Task[bytes]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # everybody who waited may have left


class _Life(asyncio.SubprocessProtocol):
    """One process from start to end, and what it is asked."""

    def __init__(self, ahead: int) -> None:
        self.asked: deque[_Question] = deque()
        self._waiting: deque[_Question] = deque()
        self._ahead = ahead
        self._received = bytearray()
        self._watched: _Question | None = None
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._late = self._killed = False
        self._over = asyncio.Event()

    @property
    def pid(self) -> int:
        return self._transport.get_pid()

    @property
    def ended(self) -> bool:
        """Or about to be."""
        return self._killed or self._over.is_set()

    async def ask(self, body: bytes, seconds: float, patience: float | None) -> bytes:
        if self.ended:
            raise HelperLost
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        question = _Question(frame(body), seconds, answer)
        self._waiting.append(question)
        self._send()
        try:
            async with asyncio.timeout(patience):
                return await answer
        except TimeoutError:
            if not self._long_at(question):
                raise HelperBusy from None
            self._out_of_time()
            raise HelperDied("out of time", slow=True) from None

    async def end(self) -> None:
        self._kill()
        await self._over.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports inherit from no class of asyncio's.
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self._stdin = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._received += data
        while len(self._received) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._received)
            end = LENGTH.size + size
            if size > MAX_FRAME or not self.asked:
                self._kill()
                return
            if len(self._received) < end:
                return
            body = bytes(self._received[LENGTH.size : end])
            del self._received[:end]
            self._answered(self.asked.popleft(), body)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has been reaped, and its pipes have ended."""
        self._over.set()
        code = self._transport.get_returncode()
        slow = self._late or code == -signal.SIGPROF
        for question in self.asked:
            if not question.answer.done():
                at_it = question is self.asked[0] and code != 0  # 0: it left between two
                error = HelperDied(f"exit {code}", slow) if at_it else HelperLost()
                question.answer.set_exception(error)
        for question in self._waiting:
            if not question.answer.done():
                question.answer.set_exception(HelperLost())
        self.asked.clear()
        self._waiting.clear()
        self._watch()
        self._transport.close()

    def _answered(self, question: _Question, body: bytes) -> None:
        if not question.answer.done():  # else its client has left
            question.answer.set_result(body)
        self._send()

    def _send(self) -> None:
        # With a pipe that is closed, it has ended, and whoever waits is told so in a moment.
        while self._waiting and len(self.asked) < self._ahead and not self._stdin.is_closing():
            question = self._waiting.popleft()
            if not question.answer.done():
                self._stdin.write(question.frame)
                self.asked.append(question)
        self._watch()

    def _watch(self) -> None:
        """Let the time run of the question that it is at."""
        first = self.asked[0] if self.asked else None
        if first is self._watched:
            return
        self._watched = first
        self._since = asyncio.get_running_loop().time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if first is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(first.seconds, self._out_of_time)

    def _long_at(self, question: _Question) -> bool:
        """Whether it has had most of its time."""
        spent = asyncio.get_running_loop().time() - self._since
        return question is self._watched and spent > question.seconds / 2

    def _out_of_time(self) -> None:
        self._late = True
        self._kill()

    def _kill(self) -> None:
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            self._transport.kill()
