"""What libraries say about a client's text, made fit for the client: nothing of this machine."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{4,}\b")
_FILE = re.compile(
    r"(?<![\w#/.])(?:[A-Za-z]:\\|~/|/(?:home|root|usr|opt|tmp|var|etc|work|build|src|rustc|github|Users|proc)\b/?)"
    r"[\w.@+\\/-]*(?::\d+)*"
    r"|\b[\w/.-]+\.(?:rs|py|pyx|c|cc|cpp|h)(?::\d+)+"
)
HIDDEN = "…"


def told(message: str, most: int) -> str:
    """At most `most` characters of the first line, without addresses and places of files."""
    line = message.strip().partition("\n")[0]
    return _FILE.sub(HIDDEN, _ADDRESS.sub(HIDDEN, line))[:most]
