"""A chat that was answered by script: chunks with reasoning and tool calls, without an engine."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, cast

from octavo.services.frontend.replies import (
    ChatChunk,
    ChatChunkChoice,
    ChatDelta,
    FunctionDelta,
    PromptTokensDetails,
    ToolCallDelta,
    Usage,
)
from octavo.services.frontend.routes.chat import ChatWriter
from octavo.services.frontend.service import Head
from octavo.shared.text.output import Delta

HEAD = Head(id="x_1", created=1, model="m", system_fingerprint="f")
USAGE = Usage(
    prompt_tokens=10,
    completion_tokens=5,
    total_tokens=15,
    prompt_tokens_details=PromptTokensDetails(cached_tokens=4),
)


def tool_delta(index: int, arguments: str, call_id: str = "", name: str = "") -> ChatDelta:
    """The first delta of a call has an id and a name."""
    function = FunctionDelta(arguments=arguments)
    call = ToolCallDelta(index=index, function=function)
    if call_id:
        call.id, call.type, function.name = call_id, "function", name
    return ChatDelta(tool_calls=[call])


class ScriptedChat:
    """Stands in for a ChatWriter; each `chunk` brings the next delta."""

    wants_every_token = False

    def __init__(self, deltas: Sequence[ChatDelta], finish_reason: str = "stop") -> None:
        self._deltas = list(deltas)
        self._finish_reason = finish_reason

    def usage(self) -> Usage:
        return USAGE

    def chat_chunks(self, index: int, delta: Delta, first: bool, usage: Any) -> list[ChatChunk]:
        news = self._deltas.pop(0)
        reason = None if self._deltas else self._finish_reason
        choice = ChatChunkChoice(index=0, delta=news, finish_reason=reason)
        return [
            ChatChunk(
                id="chatcmpl-1", created=1, model="m", choices=[choice], system_fingerprint="f"
            )
        ]

    def as_writer(self) -> ChatWriter:
        return cast(ChatWriter, self)


def played(writer: Any, num_deltas: int) -> bytes:
    """Everything that `writer` writes over a scripted chat."""
    blocks = [writer.chunk(0, Delta(), i == 0, None) for i in range(num_deltas)]
    return b"".join(one for block in [*blocks, writer.ending(None)] for one in block)


def answering(client: Any, stream: bytes) -> Any:
    """An SDK's HTTP client, of class `client`, that gets `stream` whatever it asks."""
    # Of which HTTP library that class is depends on the SDK's version.
    [base] = [kind for kind in client.__mro__ if kind.__name__ == "Client"]
    http = importlib.import_module(base.__module__.partition(".")[0])
    headers = {"content-type": "text/event-stream"}
    answer = http.Response(200, content=stream, headers=headers)
    return client(transport=http.MockTransport(lambda _: answer))
