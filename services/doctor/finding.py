"""What an examination says of one thing."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["ok", "warning", "error"]
GIB = 1 << 30


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """`fix`: what to do about it; none where all is well."""

    name: str
    level: Level
    text: str
    fix: str = ""


def ok(name: str, text: str) -> Finding:
    return Finding(name, "ok", text)


def warning(name: str, text: str, fix: str) -> Finding:
    return Finding(name, "warning", text, fix)


def error(name: str, text: str, fix: str) -> Finding:
    return Finding(name, "error", text, fix)
