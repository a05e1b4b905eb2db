"""BadWords: sequences of ids that an output may not hold; the last id of one is banned."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from octavo.services.worker.constraints.masks import ban
from octavo.shared.grammar.matcher import Masks


class BadWords:
    """As vLLM has it: a sequence counts where all of it is output."""

    def __init__(self, sequences: Sequence[Sequence[int]]) -> None:
        self._sequences = [tuple(one) for one in sequences if one]
        longest = max(map(len, self._sequences), default=1)
        self._tail: collections.deque[int] = collections.deque(maxlen=max(longest - 1, 0))

    def accept(self, token_id: int) -> None:
        self._tail.append(token_id)

    def narrow(self, mask: Masks) -> None:
        tail = tuple(self._tail)
        for *beginning, last in self._sequences:
            if tail[len(tail) - len(beginning) :] == tuple(beginning):
                ban(mask, last)
