"""A chat's chunks as the events of Anthropic's streams."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UnsetType

from octavo.services.frontend.anthropic.errors import anthropic_error
from octavo.services.frontend.anthropic.from_chat import stop_of
from octavo.services.frontend.anthropic.replies import (
    AnthropicMessage,
    BlockDelta,
    BlockDeltaEvent,
    BlockStart,
    BlockStop,
    Content,
    InputJsonDelta,
    MessageDelta,
    MessageStart,
    MessageStop,
    Ping,
    StopDelta,
    TextContent,
    TextDelta,
    ThinkingContent,
    ThinkingDelta,
    ToolUseContent,
    usage_of,
)
from octavo.services.frontend.events import event
from octavo.services.frontend.replies import ChatChunk, ChatDelta, Reply, ToolCallDelta, Usage
from octavo.services.frontend.routes.chat import ChatWriter
from octavo.services.frontend.service import Head
from octavo.shared.errors import OctavoError
from octavo.shared.text.output import Delta


class MessageWriter:
    """Writes one streamed message; blocks follow each other, one open at a time."""

    def __init__(self, head: Head, chat: ChatWriter) -> None:
        self.wants_every_token = chat.wants_every_token
        self._head = head
        self._chat = chat
        self._index = -1
        self._open: object = None
        """What the open block holds: a kind of content, or a tool call's index."""
        self._called = False
        self._stop = StopDelta(stop_reason="end_turn", stop_sequence=None)

    def chunk(
        self, index: int, delta: Delta, first: bool, usage: Usage | UnsetType | None
    ) -> list[bytes]:
        chunks = self._chat.chat_chunks(index, delta, first, usage)
        news = (one for chunk in chunks for one in self._events(chunk))
        return _encoded([*(self._opening() if first else ()), *news])

    def ending(self, usage: Usage | None) -> list[bytes]:
        counts = usage_of(self._chat.usage())
        last = [MessageDelta(delta=self._stop, usage=counts), MessageStop()]
        return _encoded([*self._close(), *last])

    def error(self, error: OctavoError) -> list[bytes]:
        return [event(anthropic_error(error), "error")]

    def _opening(self) -> list[Reply]:
        message = AnthropicMessage(
            id=self._head.id,
            model=self._head.model,
            content=[],
            stop_reason=None,
            usage=usage_of(self._chat.usage()),
        )
        return [MessageStart(message=message), Ping()]

    def _events(self, chunk: ChatChunk) -> Iterator[Reply]:
        for choice in chunk.choices:
            yield from self._news(choice.delta)
            if choice.finish_reason is not None:
                stop = None if isinstance(choice.stop_reason, UnsetType) else choice.stop_reason
                reason, sequence = stop_of(choice.finish_reason, stop, called=self._called)
                self._stop = StopDelta(stop_reason=reason, stop_sequence=sequence)

    def _news(self, delta: ChatDelta) -> Iterator[Reply]:
        if delta.reasoning:
            yield from self._block("thinking", ThinkingContent(thinking=""))
            yield self._delta(ThinkingDelta(thinking=delta.reasoning))
        if delta.content:
            yield from self._block("text", TextContent(text=""))
            yield self._delta(TextDelta(text=delta.content))
        for call in delta.tool_calls or []:
            yield from self._call(call)

    def _call(self, call: ToolCallDelta) -> Iterator[Reply]:
        self._called = True
        block = ToolUseContent(id=call.id or "", name=call.function.name or "", input={})
        yield from self._block(call.index, block)
        if call.function.arguments:
            yield self._delta(InputJsonDelta(partial_json=call.function.arguments))

    def _block(self, kind: object, content: Content) -> Iterator[Reply]:
        """Close the open block and open one of this kind, unless it is open."""
        if kind == self._open:
            return
        yield from self._close()
        self._open = kind
        self._index += 1
        yield BlockStart(index=self._index, content_block=content)

    def _close(self) -> Iterator[Reply]:
        if self._open is not None:
            yield BlockStop(index=self._index)
        self._open = None

    def _delta(self, delta: BlockDelta) -> Reply:
        return BlockDeltaEvent(index=self._index, delta=delta)


def _encoded(events: list[Reply]) -> list[bytes]:
    return [event(one, str(type(one).__struct_config__.tag)) for one in events]
