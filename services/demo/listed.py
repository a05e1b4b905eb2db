"""Short lists, written as one string in the source."""

from __future__ import annotations


def listed(text: str, separator: str | None = None) -> tuple[str, ...]:
    """The entries of `text`, split at white space or at `separator`."""
    return tuple(text.split(separator))
