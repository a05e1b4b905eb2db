"""UnreadLogprobs: log-probabilities of one sequence between the engine and whoever reads them."""

from __future__ import annotations

from octavo.shared.messages import Logprobs
from octavo.shared.text.logprobs import TokenLogprob, unpack_logprobs

ITEM_BYTES = 4


class UnreadLogprobs:
    """Kept as the wire's columns, `width` numbers a token: as objects they would be ten times as
    large, as a client's JSON fifteen times."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._ids, self._values, self._ranks = bytearray(), bytearray(), bytearray()

    @property
    def token_bytes(self) -> int:
        """Of one token."""
        return ITEM_BYTES * (2 * self._width + 1)

    def add(self, values: Logprobs, row: int) -> None:
        """Row `row` of the values, which may be wider."""
        begin = row * values.width * ITEM_BYTES
        end = begin + self._width * ITEM_BYTES
        self._ids += values.token_ids[begin:end]
        self._values += values.logprobs[begin:end]
        self._ranks += values.ranks[row * ITEM_BYTES : (row + 1) * ITEM_BYTES]

    def take(self, count: int) -> list[TokenLogprob]:
        """The first `count` tokens' entries; there may be fewer."""
        size = count * ITEM_BYTES
        ids, values = _cut(self._ids, size * self._width), _cut(self._values, size * self._width)
        return unpack_logprobs(Logprobs(self._width, ids, values, _cut(self._ranks, size)))


def _cut(column: bytearray, size: int) -> bytes:
    """Its first bytes, which it loses."""
    first = bytes(column[:size])
    del column[:size]
    return first
