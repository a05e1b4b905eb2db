"""Structural tags: free text in which certain beginnings commit to a schema and an end.

    {"structures": [{"begin": "<function=f>", "schema": {...}, "end": "</function>"}],
     "triggers": ["<function="]}

Text is free until it holds a trigger. Then one of the structures that begin with that trigger must
follow to its end; after that text is free again. As a grammar: a trigger ends a lazy lexeme, which
wins over the free text as soon as it is complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from octavo.shared.errors import InvalidRequest
from octavo.shared.grammar.json_schema import JsonOptions, schema_text
from octavo.shared.grammar.spec import GrammarSpec, lark_string, make_spec

MAX_STRUCTURES = 256
MAX_MARK_BYTES = 1024
FREE_TEXT = r"/(.|\n)*/"


class Structure(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    begin: str
    schema: dict[str, Any] | bool = True
    end: str = ""


class StructuralTag(msgspec.Struct, kw_only=True):
    structures: list[Structure]
    triggers: list[str]


def tag_spec(
    given: dict[str, Any], param: str, options: JsonOptions, special: frozenset[str] = frozenset()
) -> GrammarSpec:
    """`special`: texts that are single tokens of the model and never part of free text (such as
    `<|python_tag|>`); a trigger that is one of them stands for the token. Raises InvalidRequest."""
    if "format" in given:
        raise InvalidRequest(
            f"{param}: `format` is not supported; use `structures` and `triggers`.", param=param
        )
    try:
        tag = msgspec.convert(given, StructuralTag)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{param}: {error}.", param=param) from error
    _check(tag, param)
    return make_spec("lark", "\n".join(_lines(tag, param, options, special)), param)


def _check(tag: StructuralTag, param: str) -> None:
    if not 0 < len(tag.structures) <= MAX_STRUCTURES:
        raise InvalidRequest(f"{param} must have 1 to {MAX_STRUCTURES} structures.", param=param)
    if not 0 < len(tag.triggers) <= MAX_STRUCTURES or "" in tag.triggers:
        raise InvalidRequest(f"{param} must have triggers, none of them empty.", param=param)
    for structure in tag.structures:
        marks = (structure.begin, structure.end)
        if max(len(mark.encode("utf-8", "replace")) for mark in marks) > MAX_MARK_BYTES:
            raise InvalidRequest(
                f"{param}: a `begin` or `end` is longer than {MAX_MARK_BYTES} bytes.", param=param
            )
        if not any(map(structure.begin.startswith, tag.triggers)):
            raise InvalidRequest(
                f"{param}: no trigger begins the structure {structure.begin[:100]!r}.", param=param
            )


def _lines(
    tag: StructuralTag, param: str, options: JsonOptions, special: frozenset[str]
) -> Iterator[str]:
    """The grammar, line by line."""
    names = [f"tag_{i}" for i in range(len(tag.structures))]
    yield f"start: ({' | '.join(names)})* free"
    yield "free: TEXT"
    yield f"TEXT: {FREE_TEXT}"
    for name, structure in zip(names, tag.structures, strict=True):
        trigger = _trigger(structure.begin, tag.triggers)
        head = f"TEXT {trigger}" if trigger in special else f"{name}_trigger"
        schema = schema_text(structure.schema, param, options)
        rest = lark_string(structure.begin[len(trigger) :])
        yield f"{name}: {head} {rest} %json {schema} {lark_string(structure.end)}"
        if trigger not in special:
            yield f"{name}_trigger[lazy]: TEXT {lark_string(trigger)}"


def _trigger(begin: str, triggers: Sequence[str]) -> str:
    """The shortest one that fits: it is the first to be complete in the text."""
    return min((each for each in triggers if begin.startswith(each)), key=len)
