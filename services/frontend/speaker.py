"""Speaker: one choice of a chat as its message, whole or in deltas."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import UNSET, UnsetType

from octavo.services.frontend.chat_parts import CallPart, ChatParts, Part, Reading
from octavo.services.frontend.replies import (
    ChatDelta,
    FunctionCall,
    FunctionDelta,
    Message,
    ToolCall,
    ToolCallDelta,
)
from octavo.services.frontend.schema import ChatRequest
from octavo.shared.text.output import OutputAssembler


class Speaker:
    """Without a `reading` the output's text is the content. `note` is told of each question to
    a parser of tool calls: whether in a stream, and whether there was a call."""

    def __init__(
        self,
        reading: Reading | None,
        body: ChatRequest,
        output: OutputAssembler,
        note: Callable[[bool, bool], None],
    ) -> None:
        self._output = output
        self._note = note
        self._reading = reading
        self._parts = None if reading is None else ChatParts(reading)
        self._shows_reasoning = body.include_reasoning is not False

    @property
    def finish_reason(self) -> str | None:
        """A choice that stops with calls says so."""
        reason = self._output.finish_reason
        called = self._parts is not None and self._parts.has_calls
        return "tool_calls" if called and reason == "stop" else reason

    @property
    def reasoning_tokens(self) -> int | None:
        """Tokens up to the end of reasoning; None where none is looked for."""
        reading, parts = self._reading, self._parts
        if reading is None or reading.reasoning is None or parts is None:
            return None
        if not parts.has_reasoned:
            return 0
        ids = self._output.token_ids
        return len(ids) if parts.in_reasoning else _end_of(list(reading.end_ids), ids)

    def delta(self, text: str, echoed: str, first: bool) -> ChatDelta | None:
        """News of this choice; None: none that a client could see."""
        role: str | UnsetType = "assistant" if first else UNSET
        if self._parts is None:
            return ChatDelta(role=role, content=echoed + text)
        part = self._parts.push(text, self._output.finish_reason is not None)
        self._count(True, part)
        shown = self._shown(part)
        content: str | UnsetType = echoed + part.content or ("" if first else UNSET)
        if content is UNSET and shown is UNSET and not part.calls:
            return None
        return ChatDelta(
            role=role,
            content=content,
            reasoning=shown,
            reasoning_content=shown,
            tool_calls=[_call_delta(call) for call in part.calls] or UNSET,
        )

    def message(self, echoed: str) -> Message:
        """All at once; to be called instead of `delta`."""
        if self._parts is None:
            return Message(content=echoed + self._output.text)
        part = self._parts.push(self._output.text, True)
        self._count(False, part)
        shown = self._shown(part)
        calls = [_call(call) for call in self._parts.calls]
        return Message(
            content=echoed + part.content or (None if calls else ""),
            reasoning=shown,
            reasoning_content=shown,
            tool_calls=calls or UNSET,
        )

    def _count(self, streaming: bool, part: Part) -> None:
        if self._reading is not None and self._reading.tools is not None:
            self._note(streaming, bool(part.calls))

    def _shown(self, part: Part) -> str | UnsetType:
        return part.reasoning if part.reasoning and self._shows_reasoning else UNSET


def _call(call: CallPart) -> ToolCall:
    function = FunctionCall(name=call.name or "", arguments=call.arguments)
    return ToolCall(id=call.call_id or "", function=function)


def _call_delta(call: CallPart) -> ToolCallDelta:
    if call.name is None:
        return ToolCallDelta(index=call.index, function=FunctionDelta(arguments=call.arguments))
    return ToolCallDelta(
        index=call.index,
        id=call.call_id or "",
        type="function",
        function=FunctionDelta(name=call.name, arguments=call.arguments),
    )


def _end_of(mark: list[int], ids: list[int]) -> int:
    """How many ids there are up to and with the mark; 0 where it is written otherwise."""
    for start in range(len(ids) - len(mark) + 1) if mark else ():
        if ids[start : start + len(mark)] == mark:
            return start + len(mark)
    return 0
