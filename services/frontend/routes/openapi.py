"""GET /openapi.json."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from octavo.services.frontend.openapi import openapi_document
from octavo.services.frontend.served import JSON, ServedRoute


async def openapi(request: Request) -> Response:
    served: tuple[ServedRoute, ...] = request.app.state.served
    return Response(_encoded(served, request.app.state.keys.asks), media_type=JSON)


@functools.cache
def _encoded(served: Sequence[ServedRoute], with_keys: bool) -> bytes:
    return msgspec.json.encode(openapi_document(served, with_keys=with_keys))
