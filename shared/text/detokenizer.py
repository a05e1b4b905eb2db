"""Incremental detokenization: bytes per token into an incremental UTF-8 decoder.

A token is bytes, not characters, so only the decoder's state (at most three bytes of an
unfinished character) crosses from token to token: O(1) a token, whatever the model emits. Bytes
that are no UTF-8 become U+FFFD by the rule of Unicode's "maximal subpart", which does not depend
on how the bytes were cut into tokens; hence streamed text equals unstreamed text.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Container

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """Turns the ids of one output into text, piece by piece.

    The output continues a prompt: a leading space stays. `id_to_bytes` gives a token's bytes,
    ids in `skipped` give no text.
    """

    def __init__(self, id_to_bytes: Callable[[int], bytes], skipped: Container[int] = ()) -> None:
        self._id_to_bytes = id_to_bytes
        self._skipped = skipped
        self._utf8 = _Utf8Decoder("replace")
        self._inside = False
        """Whether a character has begun that is not complete."""

    def push(self, token_id: int) -> str:
        """The characters that this token completes; often none or several."""
        if token_id in self._skipped:
            return ""
        data = self._id_to_bytes(token_id)
        if not self._inside and data.isascii():
            return data.decode("ascii")
        text = self._utf8.decode(data)
        self._inside = bool(self._utf8.getstate()[0])
        return text

    def flush(self) -> str:
        """At the end: U+FFFD for a character that was never completed."""
        return self._utf8.decode(b"", final=True)
