"""Turns: few helpers, many who want one, and nobody who keeps the others from it."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Hands out each of `things` to one at a time. Next comes the owner whose last turn is the
    longest ago, so whoever has one wish waits for what is under way, not for others' queues."""

    def __init__(self, things: Iterable[T]) -> None:
        self._idle = deque(things)
        self._waiting: dict[str, deque[asyncio.Future[T]]] = {}
        self._turn = 0
        self._last: dict[str, int] = {}
        """Of owners that wait or have something."""
        self._held: Counter[str] = Counter()

    def num_waiting(self, owner: str) -> int:
        return len(self._waiting.get(owner, ()))

    async def take(self, owner: str) -> T:
        """To be given back, by the same owner."""
        mine: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(mine)
        self._hand_out()
        try:
            return await mine
        except asyncio.CancelledError:
            self._withdraw(owner, mine)
            raise

    def give_back(self, owner: str, thing: T) -> None:
        self._held[owner] -= 1
        self._idle.append(thing)
        self._hand_out()
        self._forget(owner)

    def _hand_out(self) -> None:
        while self._idle and self._waiting:
            owner = min(self._waiting, key=lambda one: self._last.get(one, -1))
            mine = self._next(owner)
            self._last[owner] = self._turn
            self._turn += 1
            self._held[owner] += 1
            mine.set_result(self._idle.popleft())

    def _next(self, owner: str) -> asyncio.Future[T]:
        queue = self._waiting[owner]
        mine = queue.popleft()
        if not queue:
            del self._waiting[owner]
        return mine

    def _withdraw(self, owner: str, mine: asyncio.Future[T]) -> None:
        if mine.done() and not mine.cancelled():
            self.give_back(owner, mine.result())
            return
        queue = self._waiting.get(owner, deque())
        if mine in queue:
            queue.remove(mine)
        if not queue:
            self._waiting.pop(owner, None)
        self._forget(owner)

    def _forget(self, owner: str) -> None:
        if not self._held[owner] and owner not in self._waiting:
            del self._held[owner]
            self._last.pop(owner, None)
