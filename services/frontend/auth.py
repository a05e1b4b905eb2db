"""Authentication: deny by default. Without any key configured, every path is open."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Sequence
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import Scope as Request

from octavo.services.frontend.live.parts import PARTS
from octavo.shared.config import ServerConfig
from octavo.shared.errors import ConfigError, Forbidden, Unauthorized
from octavo.shared.keys import Key, Scope, digest_of, plain_key, read_key_file

OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready"})
PAGE_PATHS = frozenset({"/ui", *(f"/ui/{name}" for name in PARTS)})
"""The live page, without anything in it: a browser has no key to show for a page."""
ADMIN_PATHS = frozenset({"/ui/events"})
METRICS_PATHS = frozenset({"/metrics", "/load"})
RELOAD_INTERVAL = 1.0

log = logging.getLogger(__name__)


class KeyRing:
    """The keys that are accepted now: those of the flag, and of a file that may change."""

    def __init__(self, plain: Sequence[str] = (), path: Path | None = None) -> None:
        self._plain = [plain_key(key) for key in plain]
        self._path = path
        self._keys = list(self._plain)
        self._version: tuple[int, ...] = ()
        self.reload()

    @classmethod
    def of(cls, config: ServerConfig) -> KeyRing:
        path = config.api_key_file
        return cls(config.api_key, None if path is None else Path(path))

    @property
    def asks(self) -> bool:
        """Whether clients must show a key. A file that has become empty lets nobody in."""
        return self._path is not None or bool(self._keys)

    @property
    def several(self) -> bool:
        """Whether a key is a tenant: with a single one, those whom its owner names are."""
        return len(self._keys) > 1

    @property
    def apart(self) -> bool:
        """Whether each key has prefixes of its own: the only one of a file may be another's
        tomorrow."""
        return self._path is not None or self.several

    def _read(self) -> list[Key]:
        return [*self._plain, *(read_key_file(self._path) if self._path else ())]

    def admit(self, scope: Request) -> Key | None:
        """Whose request it is; None where nobody is asked. Raises Unauthorized, Forbidden."""
        if not self.asks or scope["path"] in OPEN_PATHS | PAGE_PATHS:
            return None
        key = self._find(shown_key(Headers(scope=scope)))
        if key is None:
            raise Unauthorized(
                "A valid API key is required (Authorization: Bearer … or x-api-key)."
            )
        if not key.may(needed := scope_of(scope["path"])):
            raise Forbidden(f"This API key lacks the scope `{needed}`.")
        return key

    def _find(self, shown: str) -> Key | None:
        """No early exit: the time must not tell which key came close."""
        digest, found = digest_of(shown), None
        for key in self._keys:
            if hmac.compare_digest(digest, key.digest):
                found = key
        return found

    async def watch(self) -> None:
        """Take over changes of the file, until cancelled. A broken file changes nothing."""
        while self._path is not None:
            await asyncio.sleep(RELOAD_INTERVAL)
            try:
                self.reload()
            except Exception:  # a watch that ends would leave a revoked key in force
                log.exception("the API keys stay as they were")

    def reload(self) -> None:
        if (version := _version(self._path)) == self._version:
            return
        self._version = version
        try:
            self._keys = self._read()
            log.info("%d API keys are accepted now", len(self._keys))
        except ConfigError as error:
            log.error("the API keys stay as they were: %s", error.message)


def _version(path: Path | None) -> tuple[int, ...]:
    """Another one after every change, also where another file takes the name."""
    try:
        found = path.stat() if path else None
    except OSError:
        return (0,)
    return () if found is None else (found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode)


def scope_of(path: str) -> Scope:
    if path in ADMIN_PATHS:
        return "admin"
    return "metrics" if path in METRICS_PATHS else "generate"


def shown_key(headers: Headers) -> str:
    """The bearer token, or else Anthropic's header; an empty key is nobody's."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    return headers.get("x-api-key", "").strip()
