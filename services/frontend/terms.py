"""Terms: on whose behalf a request runs, how urgent it is, and until when it is of use."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request

from octavo.services.frontend.time_limits import HEADER, Deadline, until
from octavo.shared.keys import Key, Quota
from octavo.shared.messages import NO_HURRY, Until


class Body(Protocol):
    """The fields that say so, of any request."""

    @property
    def priority(self) -> int | None: ...
    @property
    def deadline_ms(self) -> Deadline | None: ...
    @property
    def end_user(self) -> str | None: ...


@dataclass(frozen=True)
class Terms:
    """`tenant`: who shares with whom. `quota`: of the key that was shown. `traceparent`: the
    caller's span."""

    priority: int = 0
    cache_salt: str = ""
    tenant: str = ""
    until: Until = NO_HURRY
    quota: Quota | None = None
    traceparent: str = ""


def terms_of(request: Request, body: Body, salt: str | None = None) -> Terms:
    """`salt`: what the request asks for; with several keys each has a prefix cache of its own too.
    Raises InvalidRequest for a deadline that is none."""
    key: Key | None = getattr(request.state, "key", None)
    owner = key.quota.name if key is not None and request.state.shared else ""
    return Terms(
        priority=body.priority or 0,
        cache_salt=f"{owner}:{salt or ''}" if owner else salt or "",
        tenant=owner or _user(body),
        until=until(request.headers.get(HEADER), body.deadline_ms),
        quota=None if key is None else key.quota,
        traceparent=request.headers.get("traceparent", ""),
    )


def _user(body: Body) -> str:
    """Where there are not several keys, a tenant is whom the client names as its user."""
    user = body.end_user
    return hashlib.sha256(user.encode()).hexdigest()[:16] if user else ""
