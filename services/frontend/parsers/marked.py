"""Formats that write each argument between marks of its own.

A value is text: what it becomes depends on the tool's schema (`Types`). An argument goes out when
it is complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from octavo.services.frontend.parsers.events import Output
from octavo.services.frontend.parsers.json_calls import give_back
from octavo.services.frontend.parsers.reader import Reader, Steps
from octavo.services.frontend.parsers.tagged import of_name

MAX_NAME = 256
GLM_MARKS = ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")
Types = Mapping[str, Mapping[str, Any]]
"""Name of a tool -> its parameters' schema."""


class Arguments:
    """An object that is written member by member."""

    def __init__(self, out: Output, schema: Mapping[str, Any]) -> None:
        self._out = out
        self._properties: Mapping[str, Any] = schema.get("properties") or {}
        self._seen: set[str] = set()

    def add(self, name: str, text: str) -> None:
        if not name or name in self._seen:
            return
        head = ", " if self._seen else "{"
        self._seen.add(name)
        value = typed(text, self._properties.get(name))
        self._out.arguments(f"{head}{_dump(name)}: {value}")

    def close(self) -> None:
        self._out.arguments("}" if self._seen else "{}")


def typed(text: str, schema: Any) -> str:
    """JSON of a value that is written as text: a string where the schema has one, or where it
    is no JSON."""
    types = _types(schema)
    if types == {"string"}:
        return _dump(text)
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        value = {"True": True, "False": False, "None": None}.get(text, text)
    if isinstance(value, int | float) and not isinstance(value, bool) and "string" in types:
        return _dump(value if types & {"integer", "number"} else text)
    return _dump(value)


def _types(schema: Any) -> set[str]:
    if not isinstance(schema, dict):
        return set()
    if isinstance(schema.get("enum"), list) and all(isinstance(one, str) for one in schema["enum"]):
        return {"string"}
    given = schema.get("type")
    if isinstance(given, str):
        return {given}
    if isinstance(given, list):
        return {one for one in given if isinstance(one, str)}
    parts = schema.get("anyOf") or schema.get("oneOf") or []
    return {each for part in parts if isinstance(part, dict) and "type" in part
            for each in [part["type"]] if isinstance(each, str)}  # fmt: skip


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def qwen3_coder(reader: Reader, out: Output, types: Types) -> Steps[None]:
    """<tool_call><function=name><parameter=key>value</parameter>...</function></tool_call>.

    The outer marks are sometimes left out, and a newline at either end of a value is not its own.
    """
    while mark := (yield from reader.until(("<tool_call>", "<function="), out.content)):
        reader.keep()
        yield from reader.blanks()
        if mark == "<tool_call>" and not (yield from reader.skip("<function=")):
            give_back(reader, out, mark)
            continue
        name = yield from reader.run(of_name, MAX_NAME)
        if not name or (yield from reader.take()) != ">":
            give_back(reader, out, mark)
            continue
        reader.release()
        out.begin_call(name)
        yield from _parameters(reader, Arguments(out, types.get(name, {})))
        yield from reader.blanks()
        yield from reader.skip("</tool_call>")


def _parameters(reader: Reader, found: Arguments) -> Steps[None]:
    while True:
        _, mark = yield from reader.until_text("<parameter=", "</function>", "</tool_call>")
        if mark != "<parameter=":
            break
        name, _ = yield from reader.until_text(">")
        value, end = yield from reader.until_text("</parameter>")
        if not end:
            return
        found.add(name.strip(), value.removeprefix("\n").removesuffix("\n"))
    if mark:
        found.close()


def glm45(reader: Reader, out: Output, types: Types) -> Steps[None]:
    """<tool_call>name<arg_key>key</arg_key><arg_value>value</arg_value>...</tool_call>"""
    while mark := (yield from reader.until(("<tool_call>",), out.content)):
        reader.keep()
        yield from reader.blanks()
        name = yield from reader.run(of_name, MAX_NAME)
        yield from reader.blanks()
        next_mark = yield from reader.skip("<arg_key>", "</tool_call>")
        if not name or not next_mark:
            give_back(reader, out, mark)
            continue
        reader.release()
        out.begin_call(name)
        yield from _pairs(reader, Arguments(out, types.get(name, {})), next_mark)


def _pairs(reader: Reader, found: Arguments, mark: str) -> Steps[None]:
    while mark == "<arg_key>":
        key, _ = yield from reader.until_text("</arg_key>")
        yield from reader.until_text("<arg_value>")
        value, end = yield from reader.until_text("</arg_value>")
        if not end:
            return
        found.add(key.strip(), value)
        _, mark = yield from reader.until_text("<arg_key>", "</tool_call>")
    if mark:
        found.close()
