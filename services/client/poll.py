"""What a running server tells of itself: state, metrics, and its processes if it is ours."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from octavo.services.client.address import Address, Refused, said
from octavo.services.client.samples import Page, read_page
from octavo.services.supervisor.admin import ask, default_path
from octavo.shared.errors import ConfigError

PATIENCE = 5.0


@dataclass(frozen=True)
class Seen:
    """`page` None: HTTP does not answer. `admin` None: its socket is not here, or not ours."""

    state: str
    page: Page | None
    admin: dict[str, Any] | None


class Watcher:
    """Asks one server again and again."""

    def __init__(self, client: httpx.Client, address: Address, socket: Path | None) -> None:
        self._client = client
        self._address = address
        self._socket = socket or (default_path(address.port) if address.is_local else None)

    def look(self) -> Seen | None:
        """None: nobody answers. Raises Refused where somebody else does, or wants a key."""
        admin = self._ask_admin()
        try:
            state = self._state()
            page = self._page()
        except httpx.RequestError:
            return Seen(str(admin["state"]), None, admin) if admin else None
        return Seen(state, page, admin)

    def _state(self) -> str:
        answer = self._client.get("/health/ready", timeout=PATIENCE)
        try:
            body = answer.json()
            found = body["state"] if "state" in body else body["error"]["code"]
        except (ValueError, LookupError, TypeError) as error:
            raise Refused(f"{self._address.url}/health/ready: {said(answer)}") from error
        return str(found)

    def _page(self) -> Page | None:
        answer = self._client.get("/metrics", timeout=PATIENCE)
        if answer.status_code in (401, 403):
            raise Refused(f"{self._address.url}/metrics: {said(answer)}")
        if answer.status_code != 200:
            return None
        try:
            return read_page(answer.text, time.monotonic())
        except ValueError as error:
            raise Refused(f"{self._address.url}/metrics: {error}") from error

    def _ask_admin(self) -> dict[str, Any] | None:
        if self._socket is None:
            return None
        try:
            found = ask(self._socket, "status")
        except ConfigError:
            return None
        return found if isinstance(found, dict) else None
