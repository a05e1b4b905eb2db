"""OpenAI's harmony: messages in channels, calls among them (gpt-oss).

    <|channel|>analysis<|message|>thoughts<|end|><|start|>assistant<|channel|>commentary
    to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>

analysis is reasoning; commentary with a recipient is a call, and without one is content, as final
is. Where the model writes nothing of this, all is content.
"""

from __future__ import annotations

import re

from octavo.services.frontend.parsers.events import Output
from octavo.services.frontend.parsers.reader import Reader, Sink, Steps

CHANNEL, MESSAGE, START = "<|channel|>", "<|message|>", "<|start|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>", START, CHANNEL)
MARKS = (*ENDS, MESSAGE, "<|constrain|>")
RECIPIENT = re.compile(r"to=(?:functions\.)?([\w.-]{1,256})")


def harmony(reader: Reader, out: Output) -> Steps[None]:
    mark = yield from _opening(reader, out)
    while mark:
        header, message = yield from reader.until_text(MESSAGE)
        if not message:
            return
        mark = yield from reader.until(ENDS, _sink(header, out))
        while mark and mark not in (CHANNEL, START):
            # From START on it is the header's: the recipient may stand before the channel.
            _, mark = yield from reader.until_text(CHANNEL, START)


def _opening(reader: Reader, out: Output) -> Steps[str]:
    """The first mark; text without any is content."""
    yield from reader.blanks()
    if (mark := (yield from reader.skip(CHANNEL, START))) or (
        yield from reader.follows(" to=", "to=")
    ):
        return mark or START
    while (yield from reader.until(("\0",), out.content)):
        out.content("\0")
    return ""


def _sink(header: str, out: Output) -> Sink:
    """Where the message goes; a call begins here."""
    if (recipient := RECIPIENT.search(header)) is not None:
        out.begin_call(recipient[1])
        return out.arguments
    channel = header.rpartition(CHANNEL)[2].split()
    return out.reasoning if channel[:1] == ["analysis"] else out.content
