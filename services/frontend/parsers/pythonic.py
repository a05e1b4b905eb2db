"""[f(a="x", n=3), g()]: calls as a Python list, read without evaluating anything.

Llama 3.2's and 4's zero-shot format. Values are literals: strings, numbers, True, False, None,
lists, tuples and dicts of them.
"""

from __future__ import annotations

import json
from typing import Any

from octavo.services.frontend.parsers.events import Output
from octavo.services.frontend.parsers.json_calls import give_back
from octavo.services.frontend.parsers.reader import NotACall, Reader, Steps
from octavo.services.frontend.parsers.tagged import MAX_NAME, of_name, rest

MAX_DEPTH = 32
MAX_NUMBER = 64
CONSTANTS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0", "\n": ""}
HEX_DIGITS = {"x": 2, "u": 4, "U": 8}


def pythonic(reader: Reader, out: Output) -> Steps[None]:
    reader.keep()
    yield from reader.blanks()
    yield from reader.skip("<|python_start|>", "<|python_tag|>")
    yield from reader.blanks()
    if (yield from reader.skip("[")):
        yield from _calls(reader, out)
    give_back(reader, out)
    yield from rest(reader, out)


def _calls(reader: Reader, out: Output) -> Steps[None]:
    """What is kept when it returns has been no call."""
    while (yield from reader.blanks()) not in ("", "]"):
        name = yield from reader.run(of_name, MAX_NAME)
        if not name or name[0].isdigit() or (yield from reader.peek()) != "(":
            return
        yield from reader.take()
        reader.release()
        out.begin_call(name)
        try:
            yield from _arguments(reader, out)
        except NotACall:
            return
        reader.keep()
        if (yield from reader.blanks()) == ",":
            yield from reader.take()
    if (yield from reader.skip("]")):
        reader.release()
        yield from reader.blanks()
        yield from reader.skip("<|python_end|>")


def _arguments(reader: Reader, out: Output) -> Steps[None]:
    """key=value, ... up to and with the bracket. Raises NotACall, also at the end of the text."""
    head = "{"
    while (yield from reader.blanks()) != ")":
        key = yield from reader.run(of_name, MAX_NAME)
        yield from _expect(reader, "=")
        value = yield from _literal(reader, 0)
        out.arguments(f"{head}{_dump(key)}: {_dump(value)}")
        head = ", "
        if (yield from reader.blanks()) == ",":
            yield from reader.take()
        elif (yield from reader.peek()) != ")":
            raise NotACall
    yield from reader.take()
    out.arguments("}" if head == ", " else "{}")


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _expect(reader: Reader, char: str) -> Steps[None]:
    if (yield from reader.blanks()) != char:
        raise NotACall
    yield from reader.take()


def _literal(reader: Reader, depth: int) -> Steps[Any]:
    """Raises NotACall."""
    if depth > MAX_DEPTH:
        raise NotACall
    first = yield from reader.blanks()
    if first in ("'", '"'):
        return (yield from _string(reader))
    if first == "[":
        return (yield from _sequence(reader, "]", depth))
    if first == "(":
        return (yield from _sequence(reader, ")", depth))
    if first == "{":
        return (yield from _mapping(reader, depth))
    return (yield from _scalar(reader))


def _scalar(reader: Reader) -> Steps[Any]:
    text = yield from reader.run(lambda char: char.isalnum() or char in "+-._", MAX_NUMBER)
    if text in CONSTANTS:
        return CONSTANTS[text]
    try:
        value = float(text) if set(text) & set(".eE") else int(text)
    except ValueError:
        raise NotACall from None
    if value != value or value in (float("inf"), float("-inf")):
        raise NotACall
    return value


def _sequence(reader: Reader, end: str, depth: int) -> Steps[list[Any]]:
    yield from reader.take()
    values: list[Any] = []
    while (yield from reader.blanks()) != end:
        values.append((yield from _literal(reader, depth + 1)))
        yield from _comma(reader, end)
    yield from reader.take()
    return values


def _mapping(reader: Reader, depth: int) -> Steps[dict[str, Any]]:
    yield from reader.take()
    values: dict[str, Any] = {}
    while (yield from reader.blanks()) != "}":
        key = yield from _literal(reader, depth + 1)
        if isinstance(key, list | dict):
            raise NotACall
        yield from _expect(reader, ":")
        name = key if isinstance(key, str) else _dump(key)
        values[name] = yield from _literal(reader, depth + 1)
        yield from _comma(reader, "}")
    yield from reader.take()
    return values


def _comma(reader: Reader, end: str) -> Steps[None]:
    following = yield from reader.blanks()
    if following == ",":
        yield from reader.take()
    elif following != end:
        raise NotACall


def _string(reader: Reader) -> Steps[str]:
    quote = yield from reader.take()
    parts: list[str] = []
    while (mark := (yield from reader.until((quote, "\\"), parts.append))) == "\\":
        parts.append((yield from _escape(reader)))
    if not mark:
        raise NotACall
    return "".join(parts)


def _escape(reader: Reader) -> Steps[str]:
    char = yield from reader.take()
    if char not in HEX_DIGITS:
        return ESCAPES.get(char, char)
    count = HEX_DIGITS[char]
    digits = yield from reader.run(lambda each: each in "0123456789abcdefABCDEF", count)
    code = int(digits, 16) if len(digits) == count else 0x110000
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise NotACall
    return chr(code)
