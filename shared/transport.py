"""Typed channels over ZeroMQ: one socket, one message union in each direction.

A `Hub` (ROUTER, bound by the scheduler) talks to many `Spoke`s (DEALER), each under its own
name. Frames are msgpack of the unions in `messages`; a frame that does not decode is dropped
and counted, never raised. Sockets live in a 0700 directory as `ipc://` files, so no other user
can reach them and no TCP port is opened.
"""

from __future__ import annotations

import collections
import logging
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import zmq
import zmq.asyncio

S = TypeVar("S")
R = TypeVar("R")
Sends = TypeVar("Sends", contravariant=True)
Receives = TypeVar("Receives", covariant=True)

log = logging.getLogger(__name__)

LINGER_MS = 200


class Codec(Generic[R]):
    """Encoder for anything, decoder for one union.

    `strict`: a malformed frame raises, for a receiver that would be wrong without it.
    """

    def __init__(self, receives: Any, strict: bool = False) -> None:
        self._strict = strict
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[R] = msgspec.msgpack.Decoder(receives)
        self.num_malformed = 0

    def encode(self, message: Any) -> bytes:
        return self._encoder.encode(message)

    def decode(self, frame: bytes) -> R | None:
        """The message, or None for a frame that is none. Raises DecodeError where strict."""
        try:
            return self._decoder.decode(frame)
        except msgspec.DecodeError as error:
            if self._strict:
                raise
            self.num_malformed += 1
            log.warning("dropped a malformed frame of %d bytes: %s", len(frame), error)
            return None


class HubLike(Protocol[Sends, Receives]):
    """What the scheduler needs of a Hub; `MemoryHub` is the in-memory twin."""

    @property
    def num_malformed(self) -> int: ...
    def send(self, peer: bytes, message: Sends) -> None: ...
    def receive(self) -> tuple[bytes, Receives] | None: ...


def _open(kind: int, context: Any = None) -> Any:
    socket = (context or zmq.Context.instance()).socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    return socket


def address(directory: Path, name: str) -> str:
    return f"ipc://{directory / name}"


class Hub(Generic[S, R]):
    """The bound end. Sends `S` to named peers, receives `R` from any."""

    def __init__(self, directory: Path, name: str, receives: Any) -> None:
        self._codec: Codec[R] = Codec(receives)
        self.socket = _open(zmq.ROUTER)
        # A peer that was killed may come back under its name before its end is noticed here.
        self.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self.socket.bind(address(directory, name))
        self._num_odd = 0

    @property
    def num_malformed(self) -> int:
        """Messages that were none, and were dropped."""
        return self._codec.num_malformed + self._num_odd

    def send(self, peer: bytes, message: S) -> None:
        """Queue a message; a peer that is not connected (any more) gets nothing."""
        self.socket.send_multipart([peer, self._codec.encode(message)], zmq.NOBLOCK)

    def receive(self) -> tuple[bytes, R] | None:
        """The next message that has arrived, or None. Never blocks: poll `socket` to wait."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return None
            if len(frames) != 2:  # the peer's name and one frame are a message
                self._num_odd += 1
            elif (message := self._codec.decode(frames[1])) is not None:
                return frames[0], message

    def close(self) -> None:
        self.socket.close()


class Spoke(Generic[S, R]):
    """The connecting end, named `peer` at the hub. For one thread."""

    def __init__(
        self, directory: Path, name: str, peer: bytes, receives: Any, strict: bool = False
    ) -> None:
        self._codec: Codec[R] = Codec(receives, strict)
        self.socket = _open(zmq.DEALER)
        self.socket.setsockopt(zmq.IDENTITY, peer)
        self.socket.connect(address(directory, name))

    def send(self, message: S) -> None:
        self.socket.send(self._codec.encode(message))

    def receive(self, timeout: float | None = None) -> R | None:
        """Wait for a message up to `timeout` seconds (None: for ever); None when it passed."""
        while True:
            if not self.socket.poll(None if timeout is None else int(timeout * 1000)):
                return None
            message = self._codec.decode(self.socket.recv())
            if message is not None:
                return message

    def close(self) -> None:
        self.socket.close()


class AsyncSpoke(Generic[S, R]):
    """The connecting end for an event loop."""

    def __init__(self, directory: Path, name: str, peer: bytes, receives: Any) -> None:
        self._codec: Codec[R] = Codec(receives)
        self._context = zmq.asyncio.Context()
        self.socket = _open(zmq.DEALER, self._context)
        self.socket.setsockopt(zmq.IDENTITY, peer)
        self.socket.connect(address(directory, name))
        self._shadow: zmq.Socket[bytes] = zmq.Socket.shadow(self.socket)
        """The same socket without the event loop's detour."""

    async def send(self, message: S) -> None:
        await self.socket.send(self._codec.encode(message))

    async def receive_all(self, limit: int = 32) -> list[R]:
        """Wait for a message; it, and up to `limit` in all that have arrived behind it."""
        while True:
            frames = [await self.socket.recv()]
            while len(frames) < limit:
                try:
                    frames.append(self._shadow.recv(zmq.NOBLOCK))
                except zmq.Again:
                    break
            messages = [self._codec.decode(frame) for frame in frames]
            if found := [message for message in messages if message is not None]:
                return found

    def close(self) -> None:
        """What has been sent goes out, if the hub takes it at once."""
        self._context.destroy(linger=LINGER_MS)


class MemoryHub(Generic[S, R]):
    """In-memory twin of `Hub` for tests: what was sent, and what is to be received."""

    num_malformed = 0

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, S]] = []
        self.inbox: collections.deque[tuple[bytes, R]] = collections.deque()

    def send(self, peer: bytes, message: S) -> None:
        self.sent.append((peer, message))

    def receive(self) -> tuple[bytes, R] | None:
        return self.inbox.popleft() if self.inbox else None

    def close(self) -> None:
        pass
