"""Siblings: the choices of one request (`n`), of which some numbers are said once for all."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class _Family:
    open: int = 0
    most: int = 0


class Siblings:
    """`parent`: what the choices of a request have in common; empty where there is one choice."""

    def __init__(self) -> None:
        self._families: dict[bytes, _Family] = {}

    def join(self, parent: bytes) -> None:
        if parent:
            self._families.setdefault(parent, _Family()).open += 1

    def leave(self, parent: bytes, num_outputs: int) -> int | None:
        """A choice has ended with so many tokens; the most of any, once all have ended."""
        if not parent:
            return num_outputs
        family = self._families[parent]
        family.open -= 1
        family.most = max(family.most, num_outputs)
        if family.open:
            return None
        del self._families[parent]
        return family.most
