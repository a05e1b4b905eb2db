"""The exception tree. Each leaf knows how the edge answers it.

OctavoError
├── RequestError            the client's fault: HTTP 4xx, never logged as a fault of ours
│   ├── InvalidRequest      400
│   ├── ContextTooLong      400, code context_length_exceeded
│   ├── Unauthorized        401
│   ├── Forbidden           403
│   ├── ModelNotFound       404
│   ├── NotFound            404
│   ├── MethodNotAllowed    405
│   ├── BodyTooLarge        413
│   └── RateLimited         429 with Retry-After
├── ServerError             ours: HTTP 5xx
│   ├── Overloaded          503 with Retry-After
│   ├── EngineDead          503
│   └── RequestFailed       500, one request ended by the engine (numerical_error, internal_error)
└── StartError              `octavo serve` cannot start; becomes the exit code
    ├── ConfigError         exit 2
    └── ResourceBusy        exit 75
"""

from __future__ import annotations


class OctavoError(Exception):
    """Base of every error that we raise on purpose; `message` is fit for a client to read."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RequestError(OctavoError):
    """The client's fault. `param` names the offending field, `code` is machine-readable."""

    status = 400
    type = "invalid_request_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code or type(self).code


class InvalidRequest(RequestError):
    pass


class ContextTooLong(RequestError):
    code = "context_length_exceeded"


class Unauthorized(RequestError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(RequestError):
    status = 403
    type = "permission_error"
    code = "insufficient_scope"


class ModelNotFound(RequestError):
    status = 404
    type = "not_found_error"
    code = "model_not_found"


class NotFound(RequestError):
    status = 404
    type = "not_found_error"


class Gone(RequestError):
    status = 410
    type = "not_found_error"


class MethodNotAllowed(RequestError):
    status = 405


class BodyTooLarge(RequestError):
    status = 413


class RateLimited(RequestError):
    """Over a limit of the client's own key. `retry_after`: whole seconds."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


HOPELESS = frozenset(
    {"request_quarantined", "numerical_error", "out_of_memory", "deadline_exceeded"}
)
"""Codes of what fails again when it is tried again at once, at some cost to others."""


class ServerError(OctavoError):
    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.param = None
        self.code = code or type(self).code

    @property
    def worth_retrying(self) -> bool | None:
        """None: who knows."""
        if self.code in HOPELESS:
            return False
        return True if self.status == 503 else None


class Overloaded(ServerError):
    """`retry_after`: whole seconds."""

    status = 503
    type = "overloaded_error"
    code = "overloaded"

    def __init__(self, message: str, *, code: str | None = None, retry_after: int = 1) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class EngineDead(ServerError):
    status = 503
    code = "engine_dead"
    retry_after = 1


class DeadlineExceeded(ServerError):
    status = 504
    type = "timeout_error"
    code = "deadline_exceeded"


class RequestFailed(ServerError):
    code = "internal_error"


class StartError(OctavoError):
    exit_code = 1


class ConfigError(StartError):
    exit_code = 2


class ResourceBusy(StartError):
    exit_code = 75
