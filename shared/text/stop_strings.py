"""Stop strings found across token borders, in streamed text.

Each stop string is a Knuth-Morris-Pratt automaton that reads the text once. Its state is the
length of the longest tail of the text that begins the stop string, so the longest state of all
is exactly what must be held back; amortized O(1) a character and stop string, and the outcome
does not depend on how the text was cut into pieces.
"""

from __future__ import annotations

from collections.abc import Sequence


class _Matcher:
    """One stop string. `matched`: how many of its characters the text ends with."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.matched = 0
        self._border = _borders(pattern)

    def advance(self, char: str) -> bool:
        """Read one character; True when the stop string is complete."""
        while self.matched and self.pattern[self.matched] != char:
            self.matched = self._border[self.matched - 1]
        if self.pattern[self.matched] == char:
            self.matched += 1
        return self.matched == len(self.pattern)


def _borders(pattern: str) -> list[int]:
    """KMP failure function: for each prefix the length of its longest proper border."""
    borders = [0] * len(pattern)
    length = 0
    for i in range(1, len(pattern)):
        while length and pattern[i] != pattern[length]:
            length = borders[length - 1]
        length += pattern[i] == pattern[length]
        borders[i] = length
    return borders


class StopStrings:
    """Watches one output. After a hit, `hit` is the stop string and pushing more is an error.

    The stop string that completes first wins; of two that complete at one character, the
    longer. `include`: the output ends with the stop string rather than before it.
    """

    def __init__(self, stops: Sequence[str], include: bool = False) -> None:
        # Longest first: the first of several hits is then the longest.
        self._matchers = [_Matcher(stop) for stop in sorted(stops, key=len, reverse=True)]
        self._include = include
        self._held = ""
        self.hit: str | None = None

    def push(self, text: str) -> str:
        """The text that is safe to show: no tail of it can still become a stop string."""
        if not self._matchers:
            return text
        for end, char in enumerate(text, start=1):
            hits = [matcher.pattern for matcher in self._matchers if matcher.advance(char)]
            if hits:
                return self._cut(self._held + text[:end], hits[0])
        return self._release(self._held + text)

    def flush(self) -> str:
        """At the end without a hit: what was held back."""
        held, self._held = self._held, ""
        return held

    def _cut(self, text: str, stop: str) -> str:
        self.hit = stop
        self._held = ""
        return text if self._include else text[: -len(stop)]

    def _release(self, text: str) -> str:
        if self._include:
            return text
        safe = len(text) - max(matcher.matched for matcher in self._matchers)
        self._held = text[safe:]
        return text[:safe]
