"""Server-sent events, and what writes them."""

from __future__ import annotations

from typing import Protocol

import msgspec
from msgspec import UnsetType

from octavo.services.frontend.replies import Reply, Usage
from octavo.shared.errors import OctavoError
from octavo.shared.text.output import Delta

DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.Encoder().encode


class ChunkWriter(Protocol):
    """How one kind of answer writes itself, as whole events."""

    wants_every_token: bool
    """Whether a chunk without text still says something (logprobs, token ids)."""

    def chunk(
        self, index: int, delta: Delta, first: bool, usage: Usage | UnsetType | None
    ) -> list[bytes]:
        """News of choice `index`; `first`: the first of that choice. May have nothing to say."""

    def ending(self, usage: Usage | None) -> list[bytes]:
        """What follows the last news; `usage` where the client asked for it."""

    def error(self, error: OctavoError) -> list[bytes]:
        """What takes the place of the rest."""


def event(reply: Reply, name: str = "") -> bytes:
    """One server-sent event; `name` is its type, none for the API's own."""
    kind = b"event: %s\n" % name.encode() if name else b""
    return b"%sdata: %s\n\n" % (kind, _encode(reply))


def completion_ending(usage_chunk: Reply | None) -> list[bytes]:
    """How both kinds of completion end."""
    return [DONE] if usage_chunk is None else [event(usage_chunk), DONE]
