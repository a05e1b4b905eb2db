"""The edge: what every HTTP request passes before and after its route.

`Edge` is the outermost ASGI layer: authentication (deny by default), the echoed X-Request-Id,
and the last catch. `error_response` is the one place where an error becomes JSON; the texts are
our own, never those of an unknown exception.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TypeVar

import msgspec
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo.services.frontend.access import note_received
from octavo.services.frontend.anthropic.errors import anthropic_error, speaks_anthropic
from octavo.services.frontend.auth import KeyRing
from octavo.services.frontend.fields import note_fields, noted_headers
from octavo.services.frontend.inbox import ClientGone
from octavo.services.frontend.json_shape import check_shape
from octavo.services.frontend.replies import ErrorBody, ErrorReply, Reply
from octavo.shared.errors import (
    BodyTooLarge,
    EngineDead,
    Forbidden,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    OctavoError,
    Overloaded,
    RateLimited,
    RequestError,
    RequestFailed,
    ServerError,
    Unauthorized,
)
from octavo.shared.foreign import told

MAX_BODY_BYTES = 8 * 2**20
MAX_DRAINED_BYTES = 64 * 2**20
"""A body over the limit is read (and dropped) up to here, so that its sender sees the 413."""
BODY_TIMEOUT = 30.0
MAX_REASON = 200
REASONS = (
    *("Expected `", "Object missing required field `", "Object contains unknown field `"),
    *("Invalid enum value ", "Invalid value ", "Integer value out of range", "Number out of range"),
)
"""How msgspec says what is wrong with a value."""

T = TypeVar("T")
_SAFE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_PATH = re.compile(r"`\$\.([^`]+)`$")
_MISSING = re.compile(r"required field `(\w+)`")
log = logging.getLogger(__name__)


def json_response(reply: Reply, status: int = 200) -> Response:
    return Response(msgspec.json.encode(reply), status, media_type="application/json")


def error_body(error: OctavoError) -> ErrorReply:
    if not isinstance(error, RequestError | ServerError):
        return error_body(RequestFailed("The server failed to answer this request."))
    return ErrorReply(
        error=ErrorBody(message=error.message, type=error.type, param=error.param, code=error.code)
    )


def error_response(error: OctavoError, path: str = "") -> Response:
    """In the form that clients of the API at `path` read."""
    status = error.status if isinstance(error, RequestError | ServerError) else 500
    body = anthropic_error(error) if speaks_anthropic(path) else error_body(error)
    response = json_response(body, status)
    if isinstance(error, Overloaded | EngineDead | RateLimited):
        response.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, ServerError) and error.worth_retrying is not None:
        response.headers["X-Should-Retry"] = "true" if error.worth_retrying else "false"
    return response


async def on_octavo_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, OctavoError):
        raise error
    return error_response(error, request.url.path)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Starlette's own errors: unknown path, wrong method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    path = request.url.path
    if status == 404:
        return error_response(NotFound(f"Unknown path: {request.method} {path[:200]}"), path)
    if status == 405:
        response = error_response(MethodNotAllowed("This path does not take this method."), path)
        response.headers["Allow"] = (getattr(error, "headers", None) or {}).get("Allow", "")
        return response
    return await on_any_error(request, error)


async def on_client_gone(request: Request, error: Exception) -> Response:
    """Nobody reads it; 499 is nginx's word for it."""
    return Response(status_code=499)


async def on_any_error(request: Request, error: Exception) -> Response:
    failed = RequestFailed("The server failed to answer this request.")
    return error_response(failed, request.url.path)


ERROR_HANDLERS = {
    OctavoError: on_octavo_error,
    ClientGone: on_client_gone,
    HTTPException: on_http_error,
    Exception: on_any_error,
}


class Edge:
    """The outermost layer."""

    def __init__(self, app: ASGIApp, keys: KeyRing) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False
        echoed = _echoed_headers(Headers(scope=scope))

        async def send_on(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                noted = noted_headers(scope.get("state", {}), with_id=not echoed)
                message["headers"] = [*message["headers"], *echoed, *noted]
            await send(message)

        try:
            key = self._keys.admit(scope)
            if key is not None:
                scope.setdefault("state", {}).update(
                    key=key, several=self._keys.several, apart=self._keys.apart
                )
            await self._app(scope, receive, send_on)
        except (Unauthorized, Forbidden) as error:
            await error_response(error, scope["path"])(scope, receive, send_on)
        except Exception:
            log.exception("a request failed")
            if not started:
                failed = RequestFailed("The server failed to answer this request.")
                await error_response(failed, scope["path"])(scope, receive, send_on)


def _echoed_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    given = headers.get("x-request-id", "").encode("latin-1")
    return [(b"x-request-id", given)] if _SAFE_ID.fullmatch(given) else []


async def read_body(request: Request) -> bytes:
    """The body, at most MAX_BODY_BYTES. Raises BodyTooLarge, ClientGone, InvalidRequest."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            body = await _read_body(request)
        note_received()
        return body
    except TimeoutError:
        raise InvalidRequest(
            f"The body did not arrive within {BODY_TIMEOUT:.0f} s.", code="timeout"
        ) from None


async def _read_body(request: Request) -> bytes:
    too_large = BodyTooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > MAX_DRAINED_BYTES:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    more = True
    while more and size <= MAX_DRAINED_BYTES:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            chunks.append(chunk)
    if size > MAX_BODY_BYTES:
        raise too_large
    return b"".join(chunks)


async def read_json(request: Request, decoder: msgspec.json.Decoder[T]) -> T:
    """The body as a request struct. Raises InvalidRequest that names the offending field."""
    body = await read_body(request)
    check_shape(body)
    try:
        decoded = decoder.decode(body)
        note_fields(request, body, decoded)
    except msgspec.ValidationError as error:
        raise invalid_request(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest("The body is not valid JSON in UTF-8.", code="invalid_json") from error
    return decoded


def invalid_request(error: msgspec.ValidationError) -> InvalidRequest:
    """A body that its struct does not take; names the field."""
    param = _param(error)
    reason = _reason(error)
    return InvalidRequest(f"{param}: {reason}" if param else reason, param=param)


def _reason(error: msgspec.ValidationError) -> str:
    """msgspec's own words where they are of a kind that we know: types, bounds and field names, at
    most a word of the client's."""
    said = told(str(error).partition(" - at `")[0], MAX_REASON)
    return f"{said}." if said.startswith(REASONS) else "It is not what this field takes."


def _param(error: msgspec.ValidationError) -> str | None:
    found = _PATH.search(str(error)) or _MISSING.search(str(error))
    return found[1] if found else None
