"""Where a running server is, as the user says it, and how it is asked."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from octavo.shared.arguments import check_url, tcp_port
from octavo.shared.errors import ConfigError, StartError
from octavo.shared.keys import check_key

DEFAULT_PORT = 8000
LOOPBACK = ("127.0.0.1", "localhost", "::1")
KEY_VARIABLE = "OCTAVO_API_KEY"
PATIENCE = httpx.Timeout(600.0, connect=5.0)


class Refused(StartError):
    """The server has answered, but not with what was asked for."""


def add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url", "--base-url", metavar="URL", help="The server (http://127.0.0.1:8000)."
    )
    parser.add_argument("--port", type=tcp_port, metavar="N", help="Of a server on this machine.")
    parser.add_argument(
        "--api-key", metavar="KEY", help=f"Else that of the variable {KEY_VARIABLE}, if set."
    )


@dataclass(frozen=True)
class Address:
    """`url` without a path of ours."""

    url: str
    key: str = ""

    @classmethod
    def of(cls, args: argparse.Namespace, environ: Mapping[str, str]) -> Address:
        """Raises ConfigError for no URL, and for a key that cannot be sent."""
        url = args.url or f"http://127.0.0.1:{args.port or DEFAULT_PORT}"
        check_url("--url", url)
        if args.url and args.port:
            raise ConfigError("--url and --port say the same: give one")
        keys = environ.get(KEY_VARIABLE, "").replace(",", " ").split()
        key = args.api_key or "".join(keys[:1])
        if key:
            check_key(key)
        return cls(url.rstrip("/").removesuffix("/v1"), key)

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def is_local(self) -> bool:
        return urlsplit(self.url).hostname in LOOPBACK

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def connect(self) -> httpx.Client:
        """Raises ConfigError for a URL that is none after all."""
        try:
            return httpx.Client(
                base_url=self.url,
                headers=self.headers,
                timeout=PATIENCE,
                trust_env=not self.is_local,  # of this machine's own server, no proxy knows
            )
        except httpx.InvalidURL as error:
            raise ConfigError(f"--url {self.url}: {error}") from error

    def nobody(self) -> ConfigError:
        return ConfigError(f"no server answers at {self.url}")


def first_model(client: httpx.Client, address: Address) -> str:
    """The name that the server gives its model. Raises StartError."""
    try:
        answer = client.get("/v1/models", timeout=10.0)
        if answer.status_code != 200:
            raise Refused(said(answer))
        return str(answer.json()["data"][0]["id"])
    except httpx.RequestError as error:
        raise address.nobody() from error
    except (ValueError, LookupError, TypeError) as error:
        raise Refused(f"{address.url} is no server of models") from error


def said(answer: httpx.Response) -> str:
    """An error's message, by OpenAI's form if it has that."""
    try:
        body: Any = answer.json()
        message = body["error"]["message"]
    except (ValueError, LookupError, TypeError):
        message = answer.text.strip()[:300] or answer.reason_phrase
    return f"{answer.status_code}: {message}"
