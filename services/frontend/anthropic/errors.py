"""Errors in Anthropic's form."""

from __future__ import annotations

from octavo.services.frontend.replies import Reply
from octavo.shared.errors import OctavoError, RequestError, ServerError

PATH = "/v1/messages"
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class AnthropicErrorBody(Reply, kw_only=True):
    type: str
    message: str


class AnthropicError(Reply, kw_only=True):
    type: str = "error"
    error: AnthropicErrorBody


def speaks_anthropic(path: str) -> bool:
    return path == PATH or path.startswith(PATH + "/")


def anthropic_error(error: OctavoError) -> AnthropicError:
    if not isinstance(error, RequestError | ServerError):
        body = AnthropicErrorBody(type="api_error", message="The server failed to answer.")
        return AnthropicError(error=body)
    other = "invalid_request_error" if error.status < 500 else "api_error"
    kind = TYPES.get(error.status, other)
    return AnthropicError(error=AnthropicErrorBody(type=kind, message=_message(error)))


def _message(error: RequestError | ServerError) -> str:
    """There is no field for the culprit's name, so the text begins with it."""
    param = error.param
    return error.message if not param or param in error.message else f"{param}: {error.message}"
