"""Formats whose calls are JSON between marks."""

from __future__ import annotations

from octavo.services.frontend.parsers.events import Output
from octavo.services.frontend.parsers.json_calls import (
    call_list,
    call_object,
    give_back,
    json_value,
)
from octavo.services.frontend.parsers.reader import NotACall, Reader, Steps

MAX_NAME = 256


def hermes(reader: Reader, out: Output) -> Steps[None]:
    """<tool_call>{"name": ..., "arguments": {...}}</tool_call>, each call in marks of its own.

    Nous Research's Hermes 2 Pro format; Qwen 2.5 and Qwen 3 write it too.
    """
    while mark := (yield from reader.until(("<tool_call>",), out.content)):
        if not (yield from call_object(reader, out)):
            give_back(reader, out, mark)
            continue
        yield from reader.blanks()
        yield from reader.skip("</tool_call>")


def granite(reader: Reader, out: Output) -> Steps[None]:
    """<|tool_call|>[{"name": ..., "arguments": {...}}, ...]; 3.3 writes <tool_call>."""
    while mark := (yield from reader.until(("<|tool_call|>", "<tool_call>"), out.content)):
        if not (yield from call_list(reader, out)):
            give_back(reader, out, mark)


def mistral(reader: Reader, out: Output) -> Steps[None]:
    """[TOOL_CALLS][{...}, ...], and since tokenizer v11 [TOOL_CALLS]name[ARGS]{...} each."""
    while mark := (yield from reader.until(("[TOOL_CALLS]",), out.content)):
        if not (yield from call_list(reader, out)) and not (yield from _named(reader, out)):
            give_back(reader, out, mark)


def _named(reader: Reader, out: Output) -> Steps[bool]:
    """name, perhaps [CALL_ID]id, perhaps [ARGS], arguments. False: it is no call."""
    name = yield from reader.run(of_name, MAX_NAME)
    call_id = None
    if (yield from reader.skip("[CALL_ID]")):
        call_id = yield from reader.run(of_name, MAX_NAME)
    yield from reader.blanks()
    if not name or not ((yield from reader.skip("[ARGS]")) or (yield from reader.peek()) == "{"):
        return False
    reader.release()
    out.begin_call(name, call_id)
    yield from arguments(reader, out)
    return True


def of_name(char: str) -> bool:
    return char.isalnum() or char in "_-."


def arguments(reader: Reader, out: Output) -> Steps[None]:
    """One JSON value, as far as it goes."""
    try:
        yield from json_value(reader, out.arguments)
    except NotACall:
        return


def llama3_json(reader: Reader, out: Output) -> Steps[None]:
    """The whole output is {"name": ..., "parameters": {...}}, or several with ; between."""
    reader.keep()
    yield from reader.blanks()
    yield from reader.skip("<|python_tag|>")
    before = None
    while (yield from reader.blanks()) == "{":
        before = reader.kept() if before is None else ""
        if not (yield from call_object(reader, out, bare=True)):
            give_back(reader, out, before)
            break
        if (yield from reader.blanks()) in (";", ","):
            yield from reader.take()
    if before is None:
        give_back(reader, out)
    yield from rest(reader, out)


def plain(reader: Reader, out: Output) -> Steps[None]:
    """[{"name": ..., "parameters": {...}}, ...] and nothing else: what `required` makes of models
    whose own format is no JSON."""
    if not (yield from call_list(reader, out)):
        give_back(reader, out)
    yield from rest(reader, out)


def rest(reader: Reader, out: Output) -> Steps[None]:
    """All that follows is content."""
    while (yield from reader.until(("\0",), out.content)):
        out.content("\0")


V3_CALL, V3_CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
V3_CALLS, V3_CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
V3_SEPARATOR = "<｜tool▁sep｜>"
V3_MARKS = (V3_CALL, V3_CALL_END, V3_CALLS, V3_CALLS_END, V3_SEPARATOR)


def deepseek_v3(reader: Reader, out: Output) -> Steps[None]:
    """DeepSeek V3 and R1: begin `function` sep name, then the arguments in a block of ```json."""
    while (yield from reader.until((V3_CALLS,), out.content)):
        while (yield from _next_mark(reader, V3_CALL, V3_CALLS_END)):
            yield from reader.until_text(V3_SEPARATOR)
            name, mark = yield from reader.until_text("```json", V3_CALL_END)
            if mark == V3_CALL_END:
                continue
            yield from _call(reader, out, name, mark, V3_CALL_END)


def deepseek_v31(reader: Reader, out: Output) -> Steps[None]:
    """DeepSeek V3.1: begin name sep arguments end."""
    while (yield from reader.until((V3_CALLS,), out.content)):
        while (yield from _next_mark(reader, V3_CALL, V3_CALLS_END)):
            name, mark = yield from reader.until_text(V3_SEPARATOR)
            yield from _call(reader, out, name, mark, V3_CALL_END)


KIMI_CALLS, KIMI_CALLS_END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
KIMI_CALL, KIMI_CALL_END = "<|tool_call_begin|>", "<|tool_call_end|>"
KIMI_ARGUMENTS = "<|tool_call_argument_begin|>"
KIMI_MARKS = (KIMI_CALLS, KIMI_CALLS_END, KIMI_CALL, KIMI_CALL_END, KIMI_ARGUMENTS)


def kimi_k2(reader: Reader, out: Output) -> Steps[None]:
    """begin functions.name:0 argument_begin {...} end; the text in front is the call's id."""
    while (yield from reader.until((KIMI_CALLS,), out.content)):
        while (yield from _next_mark(reader, KIMI_CALL, KIMI_CALLS_END)):
            call_id, mark = yield from reader.until_text(KIMI_ARGUMENTS)
            call_id = call_id.strip()[:MAX_NAME]
            name = call_id.removeprefix("functions.").rpartition(":")[0]
            yield from _call(reader, out, name or call_id, mark, KIMI_CALL_END, call_id)


def _call(
    reader: Reader, out: Output, name: str, mark: str, end: str, call_id: str | None = None
) -> Steps[None]:
    """`mark`: what stood behind the name; where the text ended before it, there is no call."""
    if mark:
        out.begin_call(name.strip()[:MAX_NAME], call_id)
        yield from arguments(reader, out)
        yield from reader.until_text(end)


def _next_mark(reader: Reader, call: str, end: str) -> Steps[bool]:
    """Whether another call follows in a section of them."""
    _, mark = yield from reader.until_text(call, end)
    return mark == call
