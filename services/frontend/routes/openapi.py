"""GET /openapi.json."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from octavo.services.frontend.openapi import openapi_document
from octavo.services.frontend.served import JSON, ServedRoute
from octavo.services.frontend.service import service_of


async def openapi(request: Request) -> Response:
    config = service_of(request).config
    served: tuple[ServedRoute, ...] = request.app.state.served
    return Response(_encoded(served, bool(config.api_key)), media_type=JSON)


@functools.cache
def _encoded(served: Sequence[ServedRoute], with_keys: bool) -> bytes:
    return msgspec.json.encode(openapi_document(served, with_keys=with_keys))
