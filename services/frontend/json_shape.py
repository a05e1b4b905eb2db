"""How deep and how branched a JSON body is, told before it is decoded, by searches in C alone.

Decoding into structs is bounded by the structs; a field of any JSON (a tool's schema) is not, and
who walks it later recurses.
"""

from __future__ import annotations

import re

from octavo.shared.errors import InvalidRequest

MAX_DEPTH = 64
MAX_CONTAINERS = 2**16
"""Objects and arrays of one body."""

_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b'[]{}"'))
_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
_STRING = re.compile(rb'"[^"]*"')


def check_shape(body: bytes) -> None:
    """Raise InvalidRequest for a body nested too deep. Whether it is JSON is not asked."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    brackets = _brackets(body)
    if len(brackets) > 2 * MAX_CONTAINERS:
        raise InvalidRequest(
            f"The body holds more than {MAX_CONTAINERS} objects and arrays.", code="body_too_deep"
        )
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")  # the innermost level
    if brackets.startswith(b"["):
        raise InvalidRequest(
            f"The body is nested deeper than {MAX_DEPTH} levels.", code="body_too_deep"
        )


def _brackets(body: bytes) -> bytes:
    """The brackets outside strings, all square; an escaped quote ends no string."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = plain.translate(_AS_ARRAYS, _ALL_BUT_BRACKETS)
    # Most strings hold no bracket. Two quotes side by side do not tell inside from outside, so
    # they may go whichever they are.
    return _STRING.sub(b"", marks.replace(b'""', b""))
