"""The access log: a line for the end of every request, with figures and never with texts.

The outermost layer opens an `Access` for each request, in the context that what answers it runs
in; the rest of the frontend writes into it what it knows.
"""

from __future__ import annotations

import logging
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from octavo.services.frontend.inbox import Inbox
from octavo.shared.log import FIELDS

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Access:
    """`began`: time.monotonic()."""

    began: float
    received: float = 0.0
    """When the body was there."""
    direct: int = 0
    """Bytes of the answer's body that went straight to the socket."""
    id: str = ""
    inboxes: list[Inbox] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Of what the engine was asked: prompt and output tokens, seconds to the first of them."""
        if not self.inboxes:
            return {}
        first = min((at for inbox in self.inboxes if (at := inbox.first_at)), default=None)
        found: dict[str, Any] = {} if first is None else {"ttft": round(first - self.began, 4)}
        return found | {
            "prompt_tokens": self.inboxes[0].num_prompt_tokens,
            "output_tokens": sum(inbox.num_output_tokens for inbox in self.inboxes),
        }


_current: ContextVar[Access | None] = ContextVar("access", default=None)


def opened(began: float) -> Access:
    """That of a request that begins now."""
    access = Access(began)
    _current.set(access)
    return access


def current() -> Access:
    """That of the request being answered; one that nobody reads outside of any."""
    return _current.get() or Access(0.0)


def note_id(request_id: str) -> None:
    if (access := _current.get()) is not None:
        access.id = request_id


def note_inbox(inbox: Inbox) -> None:
    if (access := _current.get()) is not None:
        access.inboxes.append(inbox)


def note_received() -> None:
    if (access := _current.get()) is not None:
        access.received = time.monotonic()


def arrival() -> float:
    """When what the engine is asked now had come: with the request's body; what an answer asks for
    later, now."""
    access = _current.get()
    if access is None or access.inboxes or not access.received:
        return time.monotonic()
    return access.received


def write(access: Access, method: str, route: str, status: int, seconds: float) -> None:
    """`method` and `route` are of closed sets; nothing in the line is a client's but what an id
    may hold."""
    if not log.isEnabledFor(logging.INFO):
        return
    fields = {
        "id": access.id or "-",
        "method": method,
        "route": route,
        "status": status,
        "duration": round(seconds, 4),
        **access.figures(),
    }
    text = " ".join(f"{name}={value}" for name, value in fields.items())
    log.info("request %s", text, extra={FIELDS: fields})


def write_refusal(status: int) -> None:
    """Of what was no request: its line says no more than that."""
    write(Access(0.0), "OTHER", "none", status, 0.0)


def enable(wanted: bool) -> None:
    """Whether lines are written at all, in this process."""
    log.setLevel(logging.NOTSET if wanted else logging.WARNING)
