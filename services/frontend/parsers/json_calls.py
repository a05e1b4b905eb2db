"""Calls as JSON: {"name": "f", "arguments": {...}}, in any order of the two, with any whitespace.

Arguments go out as they come. Until a call is known to be one, its text is kept, so that it can
be given back as content.
"""

from __future__ import annotations

import json

from octavo.services.frontend.parsers.events import Output
from octavo.services.frontend.parsers.reader import NotACall, Reader, Sink, Steps

ARGUMENT_KEYS = ("arguments", "parameters")
MAX_NAME = 256
NUMBER_CHARS = frozenset("+-.0123456789eE")


def call_object(reader: Reader, out: Output, *, bare: bool = False) -> Steps[bool]:
    """Read one object. False: it is no call, and `reader.kept()` has been handed to nobody.

    `bare`: nothing but the object says that it is a call, so it must have arguments.
    """
    reader.keep()
    call = _Call(out)
    try:
        yield from _members(reader, call)
        call.close(bare)
        return True
    except NotACall:
        return call.begun
    finally:
        if call.begun:
            reader.release()


def call_list(reader: Reader, out: Output) -> Steps[bool]:
    """Read [call, call, ...]. False: it is none, and `reader.kept()` has been handed to nobody."""
    reader.keep()
    if (yield from reader.blanks()) != "[":
        return False
    yield from reader.take()
    before = None
    while (yield from reader.blanks()) == "{":
        before = reader.kept() if before is None else ""
        if not (yield from call_object(reader, out)):
            give_back(reader, out, before)
            return True
        if (yield from reader.blanks()) == ",":
            yield from reader.take()
    if before is None:
        return False
    yield from reader.skip("]")
    return True


def give_back(reader: Reader, out: Output, before: str = "") -> None:
    """What was kept, behind `before`, is content after all."""
    out.content(before + reader.kept())
    reader.release()


class _Call:
    """A call whose name and arguments may come in either order."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._early: list[str] = []
        """Arguments that came before the name."""
        self._has_arguments = False
        self.name: str | None = None
        self.begun = False

    def begin_arguments(self) -> Sink:
        self._has_arguments = True
        if self.name is None:
            return self._early.append
        self._begin(self.name)
        return self._out.arguments

    def close(self, bare: bool) -> None:
        """The object is complete. Raises NotACall where it is none."""
        if self.name is None or (bare and not self._has_arguments):
            raise NotACall
        if not self.begun:
            self._begin(self.name)
            self._out.arguments("".join(self._early) or "{}")

    def _begin(self, name: str) -> None:
        self._out.begin_call(name)
        self.begun = True


def _members(reader: Reader, call: _Call) -> Steps[None]:
    """Raises NotACall."""
    yield from _expect(reader, "{")
    if (yield from reader.blanks()) == "}":
        raise NotACall
    while True:
        key = yield from json_string(reader)
        yield from _expect(reader, ":")
        yield from _member(reader, call, key)
        separator = yield from reader.blanks()
        yield from reader.take()
        if separator == "}":
            return
        if separator != ",":
            raise NotACall


def _member(reader: Reader, call: _Call, key: str) -> Steps[None]:
    if key == "name" and call.name is None:
        call.name = yield from json_string(reader)
        if not 0 < len(call.name) <= MAX_NAME:
            raise NotACall
    elif key in ARGUMENT_KEYS and not call.begun:
        if (yield from reader.blanks()) == '"':
            # Some models write the arguments' JSON as a string.
            call.begin_arguments()((yield from json_string(reader)))
        else:
            yield from json_value(reader, call.begin_arguments())
    else:
        yield from json_value(reader, _ignore)


def _ignore(text: str) -> None:
    pass


def _expect(reader: Reader, char: str) -> Steps[None]:
    if (yield from reader.blanks()) != char:
        raise NotACall
    yield from reader.take()


def json_string(reader: Reader) -> Steps[str]:
    """Raises NotACall where there is none."""
    yield from _expect(reader, '"')
    parts: list[str] = []
    yield from _string_rest(reader, parts.append)
    try:
        text = json.loads('"' + "".join(parts), strict=False)
    except ValueError:
        raise NotACall from None
    return str(text)


def _string_rest(reader: Reader, sink: Sink) -> Steps[None]:
    """The rest of a string behind its quote, the last quote included, as it is written."""
    while True:
        marker = yield from reader.until(('"', "\\"), sink)
        sink(marker)
        if marker != "\\":
            if not marker:
                raise NotACall  # the end of the text
            return
        sink((yield from reader.take()))


def json_value(reader: Reader, sink: Sink) -> Steps[None]:
    """Hand over one value as it is written: brackets are counted, what is between is not checked.

    Raises NotACall where no value begins, or the text ends inside of one.
    """
    first = yield from reader.blanks()
    if first == '"':
        sink((yield from reader.take()))
        yield from _string_rest(reader, sink)
    elif first in ("{", "["):
        yield from _container(reader, sink)
    else:
        scalar = yield from reader.run(_of_scalar, MAX_NAME)
        if not scalar:
            raise NotACall
        sink(scalar)


def _of_scalar(char: str) -> bool:
    return char.isalnum() or char in NUMBER_CHARS


def _container(reader: Reader, sink: Sink) -> Steps[None]:
    depth = 0
    while True:
        marker = yield from reader.until(("{", "[", "}", "]", '"'), sink)
        sink(marker)
        if not marker:
            raise NotACall
        if marker == '"':
            yield from _string_rest(reader, sink)
        else:
            depth += 1 if marker in "{[" else -1
        if not depth:
            return
