"""ChatParts: one choice's text becomes content, reasoning and tool calls, as it comes."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field, replace

from octavo.services.frontend.parsers.marked import Types
from octavo.services.frontend.parsers.reader import Reader, Steps
from octavo.services.frontend.parsers.reasoning import Reasoning
from octavo.services.frontend.parsers.registry import ToolParser

ID_CHARS = string.ascii_letters + string.digits


@dataclass(frozen=True)
class Reading:
    """How the outputs of one request are to be read.

    `inside`: whether they begin inside of reasoning; None: a mark may say so. `one_call`: all
    calls but the first are dropped.
    """

    tools: ToolParser | None = None
    reasoning: Reasoning | None = None
    inside: bool | None = None
    types: Types = field(default_factory=dict)
    one_call: bool = False
    end_ids: tuple[int, ...] = ()
    """How the end of reasoning is written."""


@dataclass
class CallPart:
    """News of call `index`: its id and name with the first, then arguments."""

    index: int
    arguments: str = ""
    call_id: str | None = None
    name: str | None = None


@dataclass
class Part:
    content: str = ""
    reasoning: str = ""
    calls: list[CallPart] = field(default_factory=list)


class ChatParts:
    """`push` text and take what it brought.

    Whitespace around calls and reasoning is nobody's: it is left out.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._reader = Reader()
        self._steps = self._read()
        self._part = Part()
        self._content = _Text(strips_start=reading.reasoning is not None)
        self._reasoning = _Text(strips_start=True)
        self._dropping = False
        self._calls: list[CallPart] = []
        self._arguments: list[list[str]] = []
        self.in_reasoning = self.has_reasoned = bool(reading.inside)
        self._advance()

    @property
    def has_calls(self) -> bool:
        return bool(self._calls)

    @property
    def calls(self) -> list[CallPart]:
        """With all the arguments that came."""
        pairs = zip(self._calls, self._arguments, strict=True)
        return [replace(call, arguments="".join(parts)) for call, parts in pairs]

    def push(self, text: str, last: bool) -> Part:
        """`last`: nothing follows."""
        self._reader.feed(text)
        self._reader.closed = last
        self._advance()
        if last and not self._calls:
            self._part.content += self._content.flush()
        part, self._part = self._part, Part()
        return part

    # --- what the parsers call ----------------------------------------------------------

    def content(self, text: str) -> None:
        self.in_reasoning = False
        self._part.content += self._content.push(text)

    def reasoning(self, text: str) -> None:
        self.in_reasoning = self.has_reasoned = True
        self._part.reasoning += self._reasoning.push(text)

    def begin_call(self, name: str, call_id: str | None = None) -> None:
        self.in_reasoning = False
        self._content.drop()
        self._dropping = self._reading.one_call and bool(self._calls)
        if not self._dropping:
            call = CallPart(len(self._calls), "", call_id or self._new_id(), name)
            self._calls.append(call)
            self._arguments.append([])
            self._part.calls.append(replace(call))

    def arguments(self, text: str) -> None:
        if self._dropping or not text:
            return
        self._arguments[-1].append(text)
        index, news = len(self._calls) - 1, self._part.calls
        if not news or news[-1].index != index:
            news.append(CallPart(index))
        news[-1].arguments += text

    # --- inside -------------------------------------------------------------------------

    def _read(self) -> Steps[None]:
        reading = self._reading
        if reading.reasoning is not None and not (reading.tools and reading.tools.reasons):
            yield from reading.reasoning.read(self._reader, self, reading.inside)
            self.in_reasoning = False
        if reading.tools is not None:
            yield from reading.tools.read(self._reader, self, reading.types)
        while (yield from self._reader.until(("\0",), self.content)):
            self.content("\0")

    def _advance(self) -> None:
        """Run the parser up to the end of the text so far."""
        next(self._steps, None)

    def _new_id(self) -> str:
        if self._reading.tools is not None and self._reading.tools.short_ids:
            return "".join(secrets.choice(ID_CHARS) for _ in range(9))
        return f"chatcmpl-tool-{secrets.token_hex(16)}"


class _Text:
    """Holds whitespace back until something follows it."""

    def __init__(self, strips_start: bool) -> None:
        self._strips = strips_start
        self._blanks = ""

    def push(self, text: str) -> str:
        if self._strips:
            text = text.lstrip()
            self._strips = not text
        body = text.rstrip()
        if not body:
            self._blanks += text
            return ""
        given, self._blanks = self._blanks + body, text[len(body) :]
        return given

    def flush(self) -> str:
        given, self._blanks = self._blanks, ""
        return given

    def drop(self) -> None:
        self._blanks = ""
        self._strips = True
