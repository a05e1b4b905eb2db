"""GET /openapi.json."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from octavo.services.frontend.openapi import openapi_document
from octavo.services.frontend.served import JSON, ServedRoute


async def openapi(request: Request) -> Response:
    served: tuple[ServedRoute, ...] = request.app.state.served
    # A tenth of a second the first time: not while streams wait for their tokens.
    text = await asyncio.to_thread(_encoded, served, request.app.state.keys.asks)
    return Response(text, media_type=JSON)


@functools.cache
def _encoded(served: Sequence[ServedRoute], with_keys: bool) -> bytes:
    return msgspec.json.encode(openapi_document(served, with_keys=with_keys))
