"""/ui: the live page and what feeds it.

The page itself holds nothing of the server, and opens without a key, as a browser has none to
show; what it shows comes over /ui/events, which asks for a key of scope `admin`.
"""

from __future__ import annotations

import importlib.resources
from functools import cache

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from octavo.services.frontend.connection import STREAM_HEADERS
from octavo.services.frontend.live.parts import PAGE, PARTS

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@cache
def _file(name: str) -> bytes:
    return (importlib.resources.files("octavo.services.frontend.live") / name).read_bytes()


async def page(request: Request) -> Response:
    return _static(PAGE)


async def part(request: Request) -> Response:
    """Its style or one of its scripts."""
    name = request.path_params["part"]
    if name not in PARTS:
        raise HTTPException(404)
    return _static(name)


def _static(name: str) -> Response:
    kind = TYPES[name.rpartition(".")[2]]
    return Response(_file(name), media_type=f"{kind}; charset=utf-8", headers=HEADERS)


async def events(request: Request) -> Response:
    """Two snapshots a second, for a minute."""
    feed = request.app.state.feed
    return StreamingResponse(feed.follow(), media_type="text/event-stream", headers=STREAM_HEADERS)
