"""Colour on terminals that want it: https://no-color.org holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(frozen=True)
class Style:
    colored: bool = False

    @classmethod
    def of(cls, stream: TextIO, environ: Mapping[str, str]) -> Style:
        plain = environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
        return cls(stream.isatty() and not plain)

    def paint(self, text: str, color: str) -> str:
        return f"\x1b[{CODES[color]}m{text}\x1b[0m" if self.colored else text
