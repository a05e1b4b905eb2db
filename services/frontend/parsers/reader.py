"""Reader: model output that arrives in pieces, read by generators as if it were all there.

A parser is a generator that yields whenever it needs more text, so that a format is written down
as straight code. Nothing is looked at twice but the few characters at a piece's end that may begin
a marker: what a parser costs is linear in the text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")
Steps: TypeAlias = Generator[None, None, T]
"""Yields when the text so far is used up; goes on when there is more, or no more will come."""
Sink: TypeAlias = Callable[[str], None]
COMPACT_CHARS = 4096
MAX_KEPT = 16384
"""Characters that may be read before it is clear what they are."""


class NotACall(Exception):
    """What was read is something else than it seemed."""


class Reader:
    """`closed`: no more text will come."""

    def __init__(self) -> None:
        self.closed = False
        self._text = ""
        self._at = 0
        self._kept: int | None = None

    def feed(self, text: str) -> None:
        start = self._at if self._kept is None else self._kept
        if start > COMPACT_CHARS and start > len(self._text) // 2:
            self._text = self._text[start:]
            self._at -= start
            self._kept = None if self._kept is None else 0
        self._text += text

    def keep(self) -> None:
        """Hold on to what is read from here on."""
        self._kept = self._at

    def kept(self) -> str:
        """What was read since `keep`."""
        return self._text[self._at if self._kept is None else self._kept : self._at]

    def release(self) -> None:
        self._kept = None

    def peek(self) -> Steps[str]:
        """The next character, not taken; empty at the end."""
        while self._at == len(self._text):
            if self.closed:
                return ""
            yield
        return self._text[self._at]

    def take(self) -> Steps[str]:
        """The next character; empty at the end."""
        char = yield from self.peek()
        self._at += len(char)
        return char

    def blanks(self) -> Steps[str]:
        """Take whitespace; returns the next character, not taken."""
        while (char := (yield from self.peek())).isspace():
            self._at += 1
        return char

    def run(self, belongs: Callable[[str], bool], limit: int) -> Steps[str]:
        """Take the characters that belong, at most `limit`."""
        taken: list[str] = []
        while len(taken) < limit and (char := (yield from self.peek())) and belongs(char):
            taken.append(char)
            self._at += 1
        return "".join(taken)

    def follows(self, *markers: str) -> Steps[str]:
        """The marker that comes next, not taken; empty if none does. The longest, of several."""
        longest = sorted(markers, key=len, reverse=True)
        while True:
            rest = self._text[self._at : self._at + len(longest[0])]
            open_ = [marker for marker in longest if marker.startswith(rest) and marker != rest]
            if not open_ or self.closed:
                return next((marker for marker in longest if rest.startswith(marker)), "")
            yield

    def skip(self, *markers: str) -> Steps[str]:
        """Take the marker that comes next, if one does, and return it."""
        found = yield from self.follows(*markers)
        self._at += len(found)
        return found

    def until(self, markers: tuple[str, ...], sink: Sink) -> Steps[str]:
        """Hand text over up to the first of the markers, and take that; empty: there was none.

        No marker may begin another. Raises NotACall where too much would have to be kept.
        """
        while True:
            index, marker = self._find(markers)
            end = index if marker else len(self._text)
            if not marker and not self.closed:
                end -= self._held_back(markers)
            if end > self._at:
                sink(self._text[self._at : end])
                self._at = end
            if self._kept is not None and self._at - self._kept > MAX_KEPT:
                raise NotACall
            if marker or self.closed:
                self._at += len(marker)
                return marker
            yield

    def until_text(self, *markers: str) -> Steps[tuple[str, str]]:
        """(text before the first of the markers, the marker), as `until`."""
        parts: list[str] = []
        marker = yield from self.until(markers, parts.append)
        return "".join(parts), marker

    def _find(self, markers: tuple[str, ...]) -> tuple[int, str]:
        found = _any_of(markers).search(self._text, self._at)
        return (-1, "") if found is None else (found.start(), found[0])

    def _held_back(self, markers: tuple[str, ...]) -> int:
        """Characters at the end that may be the beginning of a marker."""
        for count in range(min(max(map(len, markers)) - 1, len(self._text) - self._at), 0, -1):
            tail = self._text[-count:]
            if any(marker.startswith(tail) for marker in markers):
                return count
        return 0


@functools.cache
def _any_of(markers: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, markers)))
