"""ChunkTemplate: the bytes of a stream's usual chunk, in which only the text is new.

Nearly every chunk says one more text of a choice and nothing else. Encoding all of it for each
token costs more than everything else that is done for the token.
"""

from __future__ import annotations

import msgspec

MARK = "\ue000the text\ue000"
_encode = msgspec.json.Encoder().encode


class ChunkTemplate:
    """`sample`: an event whose text is MARK."""

    def __init__(self, sample: bytes) -> None:
        self._head, mark, self._tail = sample.partition(_encode(MARK))
        if not mark or _encode(MARK) in self._tail:
            raise ValueError("the sample must hold its text once")

    def fill(self, text: str) -> bytes:
        """The event with this text."""
        return b"%s%s%s" % (self._head, _encode(text), self._tail)
