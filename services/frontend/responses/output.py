"""The output of a response as it grows: items, and the events that tell of them.

A whole answer is taken in as one piece, so it is what the events of a stream add up to.
"""

from __future__ import annotations

from collections.abc import Iterator

from octavo.services.frontend.replies import (
    ChatDelta,
    ChatLogprob,
    FunctionDelta,
    Message,
    ToolCallDelta,
)
from octavo.services.frontend.responses.replies import (
    ArgumentsDelta,
    ArgumentsDone,
    FunctionCallItem,
    ItemEvent,
    MessageItem,
    OutputItem,
    OutputPart,
    OutputText,
    PartEvent,
    ReasoningDelta,
    ReasoningDone,
    ReasoningItem,
    ReasoningText,
    StreamEvent,
    TextDelta,
    TextDone,
)


class Output:
    """Items follow each other; the last one may be open. `suffix` makes their ids this answer's."""

    def __init__(self, suffix: str) -> None:
        self.items: list[OutputItem] = []
        self._suffix = suffix
        self._open: object = None
        """What the open item holds: a kind of text, or a tool call's index."""
        self._pieces: list[str] = []
        self._logprobs: list[ChatLogprob] = []

    @property
    def _at(self) -> int:
        return len(self.items) - 1

    @property
    def _id(self) -> str:
        return self.items[-1].id

    def push(self, delta: ChatDelta, logprobs: list[ChatLogprob]) -> Iterator[StreamEvent]:
        if delta.reasoning:
            yield from self._begin("reasoning")
            self._pieces.append(delta.reasoning)
            yield ReasoningDelta(item_id=self._id, output_index=self._at, delta=delta.reasoning)
        if delta.content:
            yield from self._begin("text")
            yield self._text(delta.content, logprobs)
        for call in delta.tool_calls or []:
            yield from self._call(call)

    def finish(self, status: str) -> Iterator[StreamEvent]:
        """`status`: whether the last item is complete. An answer of nothing is an empty message."""
        if not self.items:
            yield from self._begin("text")
        yield from self._end(status)

    def _text(self, text: str, logprobs: list[ChatLogprob]) -> StreamEvent:
        self._pieces.append(text)
        self._logprobs += logprobs
        return TextDelta(
            item_id=self._id, output_index=self._at, delta=text, logprobs=list(logprobs)
        )

    def _call(self, call: ToolCallDelta) -> Iterator[StreamEvent]:
        if self._open != call.index:
            yield from self._end("completed")
            item = FunctionCallItem(
                id=self._new_id("fc"), call_id=call.id or "", name=call.function.name or ""
            )
            yield self._added(item, call.index)
        if arguments := call.function.arguments:
            self._pieces.append(arguments)
            yield ArgumentsDelta(item_id=self._id, output_index=self._at, delta=arguments)

    def _begin(self, kind: str) -> Iterator[StreamEvent]:
        """Open an item of text, unless one of this kind is open."""
        if self._open == kind:
            return
        yield from self._end("completed")
        part: OutputPart
        if kind == "reasoning":
            yield self._added(ReasoningItem(id=self._new_id("rs")), kind)
            part = ReasoningText()
        else:
            yield self._added(MessageItem(id=self._new_id("msg")), kind)
            part = OutputText()
        yield self._part("added", part)

    def _added(self, item: OutputItem, kind: object) -> StreamEvent:
        self.items.append(item)
        self._open = kind
        return ItemEvent(type="response.output_item.added", output_index=self._at, item=item)

    def _end(self, status: str) -> Iterator[StreamEvent]:
        if self._open is None:
            return
        text = "".join(self._pieces)
        item = self.items[-1]
        yield from self._done(item, text)
        item.status = status
        self._open, self._pieces, self._logprobs = None, [], []
        yield ItemEvent(type="response.output_item.done", output_index=self._at, item=item)

    def _done(self, item: OutputItem, text: str) -> Iterator[StreamEvent]:
        at = self._at
        match item:
            case MessageItem():
                part = OutputText(text=text, logprobs=self._logprobs)
                item.content = [part]
                yield TextDone(item_id=item.id, output_index=at, text=text, logprobs=part.logprobs)
                yield self._part("done", part)
            case ReasoningItem():
                thought = ReasoningText(text=text)
                item.content = [thought]
                yield ReasoningDone(item_id=item.id, output_index=at, text=text)
                yield self._part("done", thought)
            case FunctionCallItem():
                item.arguments = text
                yield ArgumentsDone(
                    item_id=item.id, output_index=at, name=item.name, arguments=text
                )

    def _part(self, what: str, part: OutputPart) -> StreamEvent:
        kind = f"response.content_part.{what}"
        return PartEvent(type=kind, item_id=self._id, output_index=self._at, part=part)

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}_{self._suffix}{len(self.items)}"


def whole_delta(message: Message) -> ChatDelta:
    """All of a message as one piece of news."""
    calls = [
        ToolCallDelta(
            index=index,
            id=call.id,
            function=FunctionDelta(name=call.function.name, arguments=call.function.arguments),
        )
        for index, call in enumerate(message.tool_calls or [])
    ]
    return ChatDelta(
        content=message.content or "", reasoning=message.reasoning or "", tool_calls=calls
    )
