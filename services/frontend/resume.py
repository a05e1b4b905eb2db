"""Resume: the answers of streams that can be resumed, the first one and those that go on."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from octavo.services.frontend.auth import shown_key
from octavo.services.frontend.connection import STREAM_HEADERS, Connection
from octavo.services.frontend.edge import error_body, error_response
from octavo.services.frontend.events import event
from octavo.services.frontend.peers import Peers
from octavo.services.frontend.replay import EVENT_ID, STREAM_PATH, Replay, Replays
from octavo.shared.errors import Gone, InvalidRequest, NotFound, OctavoError

LAST_EVENT = "last-event-id"
COMMENT = b": keep-alive\n"
"""No empty line behind it: OpenAI's SDK takes that for an event once it has seen an id."""
RESUMED = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"})


def owner_of(scope: Scope) -> bytes:
    return hashlib.sha256(shown_key(Headers(scope=scope)).encode()).digest()


class ResumedStream(Response):
    """Events of a replay from behind event `after` to its end. A later reader ends this one."""

    media_type = "text/event-stream"

    def __init__(self, replay: Replay, after: int, silence: float) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({**STREAM_HEADERS, "X-Octavo-Stream": replay.stream_id})
        self._replay = replay
        self._after = after
        self._silence = silence

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = Connection(scope, send)
        replay, news = self._replay, asyncio.Event()
        replay.after(self._after)  # raises before the status is sent
        earlier, replay.reader = replay.reader, news
        if earlier is not None:
            earlier.set()
        replay.readers += 1
        leaving = asyncio.create_task(_left(receive, news))
        try:
            await connection.start(self.status_code, self.raw_headers)
            try:
                while not leaving.done() and replay.reader is news:
                    if await self._pass_on(connection, news):
                        break
            except Gone as gone:  # too slow: what it has not read is not kept any more
                await connection.send(event(error_body(gone)))
            await connection.end()
        finally:
            leaving.cancel()
            replay.readers -= 1
            replay.left_at = asyncio.get_running_loop().time()

    async def _pass_on(self, connection: Connection, news: asyncio.Event) -> bool:
        """What there is, or a sign of life after a long silence; True: that was all."""
        news.clear()
        over = self._replay.over
        events, self._after = self._replay.after(self._after)
        if events:
            await connection.send(b"".join(events))
        if over:
            return True
        try:
            async with asyncio.timeout(self._silence):
                await news.wait()
        except TimeoutError:
            await connection.send(COMMENT)
        return False


async def _left(receive: Receive, news: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    news.set()


class ResumeLayer:
    """Answers requests that carry Last-Event-ID; their bodies are not read."""

    def __init__(self, app: ASGIApp, replays: Replays, peers: Peers, silence: float) -> None:
        self._app = app
        self._replays = replays
        self._peers = peers
        self._silence = silence

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            found = _asked(scope) if scope["type"] == "http" else None
        except OctavoError as error:
            await error_response(error, scope["path"])(scope, receive, send)
            return
        if found is None:
            await self._app(scope, receive, send)
        elif self._peers.elsewhere(found[0]):
            await self._peers.pass_on(scope, receive, send, found[0])
        else:
            await self._resume(scope, receive, send, *found)

    async def _resume(
        self, scope: Scope, receive: Receive, send: Send, stream_id: str, after: int
    ) -> None:
        try:
            replay = self._replays.find(stream_id, owner_of(scope))
            await ResumedStream(replay, after, self._silence)(scope, receive, send)
        except OctavoError as error:
            await error_response(error, scope["path"])(scope, receive, send)


def _asked(scope: Scope) -> tuple[str, int] | None:
    """(stream, event) of a request that resumes. Raises InvalidRequest for a header that names no
    event, or one of another stream than the path."""
    named = STREAM_PATH.fullmatch(scope["path"]) if scope["method"] == "GET" else None
    if named is None and not (scope["method"] == "POST" and scope["path"] in RESUMED):
        return None
    given = Headers(scope=scope).get(LAST_EVENT, "")
    if not given:
        return None if named is None else (named[1], 0)
    found = EVENT_ID.fullmatch(given)
    if found is None or (named is not None and named[1] != found[1]):
        raise InvalidRequest("Last-Event-ID names no event of a stream.", param="Last-Event-ID")
    return found[1], int(found[2])


async def resume_by_path(request: Request) -> Response:
    """A path whose last part is no stream's id: the others are answered before they come here."""
    raise NotFound("This is no stream's id.", code="stream_not_found")


def wants_resumable(scope: Scope) -> bool:
    """By the request's header, or for all by the server's flag."""
    asked = Headers(scope=scope).get("x-octavo-resumable", "")
    if asked:
        return asked.lower() in ("1", "true", "yes")
    with contextlib.suppress(KeyError, AttributeError):
        return bool(scope["app"].state.service.config.resumable_streams)
    return False
