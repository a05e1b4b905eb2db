"""Terms: on whose behalf a request runs, how urgent it is, and until when it is of use."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request

from octavo.services.frontend.bounds import LONGEST_DEADLINE_MS
from octavo.services.frontend.edge import cache_salt
from octavo.shared.errors import InvalidRequest

DEADLINE_HEADER = "x-request-deadline-ms"


class Body(Protocol):
    """The fields that say so, of any request."""

    @property
    def priority(self) -> int | None: ...
    @property
    def deadline_ms(self) -> int | None: ...
    @property
    def user(self) -> str | None: ...


@dataclass(frozen=True)
class Terms:
    """`deadline`: CLOCK_MONOTONIC seconds, 0 for none. `tenant`: who shares with whom."""

    priority: int = 0
    cache_salt: str = ""
    tenant: str = ""
    deadline: float = 0.0


def terms_of(request: Request, body: Body, salt: str | None = None) -> Terms:
    """Raises InvalidRequest for a deadline that is none."""
    return Terms(
        priority=body.priority or 0,
        cache_salt=cache_salt(request, salt),
        tenant=_tenant(request, body),
        deadline=_deadline(request, body),
    )


def _tenant(request: Request, body: Body) -> str:
    """The API key where there are several, else whom the client names as its user."""
    key: str = getattr(request.state, "tenant", "")
    if key or not body.user:
        return key
    return hashlib.sha256(body.user.encode()).hexdigest()[:16]


def _deadline(request: Request, body: Body) -> float:
    given = [one for one in (_header(request), body.deadline_ms) if one is not None]
    return time.monotonic() + min(given) / 1e3 if given else 0.0


def _header(request: Request) -> int | None:
    text = request.headers.get(DEADLINE_HEADER)
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 10:
        milliseconds = int(text)
        if 1 <= milliseconds <= LONGEST_DEADLINE_MS:
            return milliseconds
    raise InvalidRequest(
        f"X-Request-Deadline-Ms must be between 1 and {LONGEST_DEADLINE_MS}.",
        param="X-Request-Deadline-Ms",
    )
