"""Sends one request of a batch, again where the server is busy or cannot be reached."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

from octavo.services.batch.answers import Answer, AnswerError, AnswerResponse, new_id
from octavo.services.batch.jobs import Job
from octavo.shared.errors import StartError

TRIES = 6
BUSY = (429, 502, 503, 504)
LONGEST_WAIT = 30.0
TIMEOUT = httpx.Timeout(3600.0, connect=10.0)


class ServerGone(StartError):
    """Nobody answers any more; what is not done yet can be asked for by another run."""


@dataclass(frozen=True)
class Address:
    """Where the server is: a URL, or a socket of ours on which any URL will do."""

    url: str
    socket: str | None = None
    key: str | None = None

    def connect(self, connections: int) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        transport = (
            None
            if self.socket is None
            else httpx.AsyncHTTPTransport(uds=self.socket, limits=limits)
        )
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        return httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=TIMEOUT, limits=limits, transport=transport
        )


async def answer(client: httpx.AsyncClient, job: Job) -> Answer:
    """The answer to one job, whatever it is. Raises ServerGone."""
    if job.problem is not None:
        error = AnswerError(code="invalid_request", message=job.problem)
        return Answer(id=new_id(), custom_id=job.custom_id, error=error)
    request_id = new_id()
    response = await _post(client, job, request_id)
    body = _decoded(response.content)
    if body is None:
        error = AnswerError(code="invalid_response", message="The server's answer is not JSON.")
        return Answer(id=request_id, custom_id=job.custom_id, error=error)
    named = response.headers.get("x-request-id", request_id)
    given = AnswerResponse(status_code=response.status_code, request_id=named, body=body)
    return Answer(id=request_id, custom_id=job.custom_id, response=given)


async def _post(client: httpx.AsyncClient, job: Job, request_id: str) -> httpx.Response:
    for attempt in range(TRIES):
        last = attempt == TRIES - 1
        wait = min(2.0**attempt, LONGEST_WAIT)
        try:
            response = await client.post(
                job.url, content=job.body, headers={"X-Request-Id": request_id}
            )
        except httpx.TransportError as error:
            if last:
                raise ServerGone("the server cannot be reached any more") from error
        else:
            if last or response.status_code not in BUSY or _is_hopeless(response):
                return response
            wait = _asked_wait(response) or wait
        await asyncio.sleep(wait)
    raise ServerGone("unreachable")


def _is_hopeless(response: httpx.Response) -> bool:
    return bool(response.headers.get("x-should-retry") == "false")


def _asked_wait(response: httpx.Response) -> float | None:
    asked = response.headers.get("retry-after", "")
    return min(float(asked), LONGEST_WAIT) if asked.isascii() and asked.isdecimal() else None


def _decoded(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
