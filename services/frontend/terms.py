"""Terms: on whose behalf a request runs, how urgent it is, and until when it is of use."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from starlette.requests import Request

from octavo.services.frontend.time_limits import HEADER, Deadline, until
from octavo.shared.keys import Key, Quota
from octavo.shared.messages import NO_HURRY, Until

TRACE = ("traceparent", "tracestate")


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
    """`tenant`: who shares with whom. `quota`: of the key that was shown. `trace`: the headers that
    name the caller's span. `goes_on`: as in Submit."""

    priority: int = 0
    cache_salt: str = ""
    tenant: str = ""
    until: Until = NO_HURRY
    quota: Quota | None = None
    trace: Mapping[str, str] = field(default_factory=dict)
    goes_on: bool = False

    def taken_in(self) -> Terms:
        """For what the same request asks of the engine later."""
        return replace(self, goes_on=True, until=Until(end=self.until.end))


def terms_of(request: Request, body: Body, salt: str | None = None) -> Terms:
    """`salt`: what the request asks for; keys have a prefix cache each, too.
    Raises InvalidRequest for a deadline that is none."""
    key: Key | None = getattr(request.state, "key", None)
    name = "" if key is None else key.quota.name
    return Terms(
        priority=body.priority or 0,
        cache_salt=f"{name}:{salt or ''}" if name and request.state.apart else salt or "",
        tenant=name if name and request.state.several else _user(body),
        until=until(request.headers.get(HEADER), body.deadline_ms),
        quota=None if key is None else key.quota,
        trace={name: request.headers[name] for name in TRACE if name in request.headers},
    )


def _user(body: Body) -> str:
    """Where there are not several keys, a tenant is whom the client names as its user."""
    user = body.end_user
    return hashlib.sha256(user.encode()).hexdigest()[:16] if user else ""
