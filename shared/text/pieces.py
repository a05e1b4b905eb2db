"""Vocabulary strings and the bytes they stand for.

A byte-level BPE writes each byte as one printable character (GPT-2's table); a SentencePiece
vocabulary writes a space as U+2581 and a lone byte as `<0xE4>`. Which one a tokenizer uses is
read off the decoder named in its tokenizer.json.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

PieceToBytes: TypeAlias = Callable[[str], bytes]

METASPACE = "▁"
_LONE_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_level_table() -> dict[str, int]:
    """GPT-2's map: printable Latin-1 stands for itself, the other bytes for U+0100 onwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_LEVEL = _byte_level_table()


def byte_level(piece: str) -> bytes:
    try:
        return bytes([_BYTE_LEVEL[char] for char in piece])
    except KeyError:  # an added token, written as plain text
        return piece.encode()


def metaspace(piece: str) -> bytes:
    return piece.replace(METASPACE, " ").encode()


def byte_fallback(piece: str) -> bytes:
    lone = _LONE_BYTE.fullmatch(piece)
    return bytes([int(lone[1], 16)]) if lone else metaspace(piece)


def plain(piece: str) -> bytes:
    return piece.encode()


def codec_of(decoder: dict[str, Any] | None) -> tuple[PieceToBytes, int]:
    """The codec for tokenizer.json's `decoder`, and the leading spaces that a whole text drops."""
    steps = {step["type"]: step for step in _steps(decoder)}
    if "ByteLevel" in steps:
        return byte_level, 0
    if "ByteFallback" in steps:
        return byte_fallback, _dropped_spaces(steps)
    if "Metaspace" in steps or "Replace" in steps:
        return metaspace, _dropped_spaces(steps)
    return plain, 0


def _steps(decoder: dict[str, Any] | None) -> list[dict[str, Any]]:
    if decoder is None:
        return []
    return decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]


def _dropped_spaces(steps: dict[str, dict[str, Any]]) -> int:
    if "Strip" in steps and steps["Strip"]["content"] == " ":
        return int(steps["Strip"]["start"])
    scheme = steps.get("Metaspace", {"prepend_scheme": "never"}).get("prepend_scheme", "always")
    return 0 if scheme == "never" else 1
