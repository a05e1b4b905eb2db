"""Quarantine: what workers died of is not let in again, for clients send again what has failed.

Told apart by prompt and parameters without the seed, which is another with each try. For some
minutes: it may have been bad luck.
"""

from __future__ import annotations

import hashlib

import msgspec

from octavo.services.scheduler.request import Request
from octavo.shared.messages import pack

MAX_KNOWN = 1024
MINUTES = 10.0

_encoder = msgspec.msgpack.Encoder(order="deterministic")


class Quarantine:
    """Times are CLOCK_MONOTONIC seconds."""

    def __init__(self) -> None:
        self._known: dict[bytes, float] = {}
        """Digest -> when it was found, the latest last."""

    def add(self, request: Request, now: float) -> None:
        digest = _digest(request)
        self._known.pop(digest, None)
        self._known[digest] = now
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def holds(self, request: Request, now: float) -> bool:
        """Whether it is one of those."""
        while self._known and next(iter(self._known.values())) < now - 60 * MINUTES:
            del self._known[next(iter(self._known))]
        return bool(self._known) and _digest(request) in self._known


def _digest(request: Request) -> bytes:
    sampling = msgspec.structs.replace(request.sampling, seed=None)
    asked = _encoder.encode((sampling, request.pooling))
    return hashlib.sha256(pack(request.token_ids[: request.prompt_len]) + asked).digest()
