"""Deadlines of a request: `X-Request-Deadline-Ms` and `deadline_ms`, one form each for all of it
and for its parts."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from octavo.shared.errors import InvalidRequest
from octavo.shared.messages import NO_HURRY, Until

HEADER = "X-Request-Deadline-Ms"
LONGEST_MS = 86_400_000
_PART = re.compile(r"(?:(queue|ttft|total)=)?([0-9]{1,9})", re.ASCII)

Milliseconds: TypeAlias = Annotated[int, Meta(ge=1, le=LONGEST_MS)]


class Parts(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Milliseconds from the request's arrival until it has to run (`queue`), to have its first
    token (`ttft`), to have ended (`total`)."""

    queue: Milliseconds | None = None
    ttft: Milliseconds | None = None
    total: Milliseconds | None = None


Deadline: TypeAlias = Milliseconds | Parts
"""A number is `total`."""


def until(header: str | None, field: Deadline | None) -> Until:
    """The earlier of both. Raises InvalidRequest for a header that is none."""
    given = [*_from_header(header), *_from_field(field)]
    if not given:
        return NO_HURRY
    now = time.monotonic()
    ends = {name: now + min(ms for part, ms in given if part == name) / 1e3 for name, _ in given}
    return Until(ends.get("queue", 0.0), ends.get("ttft", 0.0), ends.get("total", 0.0))


def _from_field(field: Deadline | None) -> Iterator[tuple[str, int]]:
    parts = field if isinstance(field, Parts) else Parts(total=field)
    for name in ("queue", "ttft", "total"):
        if (value := getattr(parts, name)) is not None:
            yield name, value


def _from_header(text: str | None) -> Iterator[tuple[str, int]]:
    if text is None:
        return
    for part in text.split(","):
        found = _PART.fullmatch(part.strip())
        if found is None or not 1 <= int(found[2]) <= LONGEST_MS:
            raise InvalidRequest(
                f"{HEADER} must be a number between 1 and {LONGEST_MS}, or such for queue, ttft "
                "and total (queue=500, total=30000).",
                param=HEADER,
            )
        yield found[1] or "total", int(found[2])
