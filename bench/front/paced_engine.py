"""A scheduler that gives every running request one token each so many milliseconds.

    python bench/front/paced_engine.py FOLDER MILLISECONDS

It speaks the engine's protocol on the socket in FOLDER, one message a step as the real one.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from octavo.shared.config import FRONTEND_SOCKET
from octavo.shared.messages import (
    Abort,
    EngineStats,
    Finished,
    Outputs,
    Started,
    Submit,
    ToFrontend,
    ToScheduler,
    pack,
)
from octavo.shared.transport import Hub

FIRST_ID, NUM_IDS = 300, 200
"""Ids of ordinary text, all of which the tokenizer has."""


class PacedEngine:
    def __init__(self, folder: Path) -> None:
        self._hub: Hub[ToFrontend, ToScheduler] = Hub(folder, FRONTEND_SOCKET, ToScheduler)
        self._left: dict[bytes, int] = {}
        """Tokens that each running request still wants."""
        self._started: list[Started] = []
        self._peer = b""
        self._step = 0

    def run(self, interval: float) -> None:
        following = time.perf_counter()
        while True:
            following = max(following + interval, time.perf_counter())
            while (left := following - time.perf_counter()) > 0:
                self.wait(left * 1e3)
            self.advance()

    def wait(self, milliseconds: float) -> None:
        """Take in what comes, waiting for the first."""
        self._hub.socket.poll(milliseconds)
        while (received := self._hub.receive()) is not None:
            self._peer, message = received
            if isinstance(message, Submit):
                self._left[message.request_id] = message.sampling.max_tokens or 1
                self._started.append(Started(message.request_id, 0))
            elif isinstance(message, Abort):
                for request_id in message.request_ids:
                    self._left.pop(request_id, None)

    def advance(self) -> None:
        """One step: a token for each, and the sign of life that /health waits for."""
        self._step += 1
        if not self._peer:
            return
        if self._left:
            token = FIRST_ID + self._step % NUM_IDS
            over = [request_id for request_id, left in self._left.items() if left == 1]
            outputs = Outputs(
                request_ids=b"".join(self._left),
                token_ids=pack([token] * len(self._left)),
                started=[each for each in self._started if each.request_id in self._left],
                finished=[Finished(request_id, "length") for request_id in over],
            )
            self._hub.send(self._peer, outputs)
            self._left = {key: left - 1 for key, left in self._left.items() if left > 1}
            self._started.clear()
        running = len(self._left)
        self._hub.send(
            self._peer, EngineStats(self._step, running, 0, blocks_used=0, blocks_total=1)
        )

    def close(self) -> None:
        self._hub.close()


if __name__ == "__main__":
    PacedEngine(Path(sys.argv[1])).run(float(sys.argv[2]) / 1e3)
