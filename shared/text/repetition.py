"""Repetition: whether an output's last tokens are one pattern over and over."""

from __future__ import annotations

from octavo.shared.sampling import RepetitionDetection


class RepetitionDetector:
    """Reads the ids of one output once: O(max_pattern_size) a token, however long the output.

    For each pattern size p it keeps how many of the last tokens equal the one p before them;
    `min_count` patterns in a row are p * (min_count - 1) of these.
    """

    def __init__(self, asked: RepetitionDetection) -> None:
        smallest = max(asked.min_pattern_size, 1)
        self._needed = {
            size: size * (asked.min_count - 1)
            for size in range(smallest, asked.max_pattern_size + 1)
        }
        self._runs = dict.fromkeys(self._needed, 0)
        self._tail: list[int] = []
        self._size = asked.max_pattern_size

    def push(self, token_id: int) -> bool:
        """True when this token completes a repetition."""
        tail, runs = self._tail, self._runs
        tail.append(token_id)
        found = False
        for size, needed in self._needed.items():
            if len(tail) <= size or tail[-1 - size] != token_id:
                runs[size] = 0
            else:
                runs[size] += 1
                found = found or runs[size] >= needed
        if len(tail) > 4 * self._size:
            del tail[: -self._size - 1]
        return found
