"""JSON schemas: checked for size, depth and keywords, and written down for llguidance.

What llguidance cannot enforce is an error that names the keyword and its place; nothing that
restricts the output is ignored. Two departures remain, both llguidance's: properties come in the
order in which the schema names them, and keys that only `additionalProperties` or
`patternProperties` allow may come twice (a JSON reader keeps the last one).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from octavo.shared.errors import InvalidRequest
from octavo.shared.grammar.spec import GrammarSpec, decode_object, make_spec

Json: TypeAlias = Any
Place: TypeAlias = tuple[str, Json]
"""(where a schema stands, for the reader of an error; the schema)"""

MAX_DEPTH = 64
"""Of JSON nesting; a schema within a schema is two or three levels."""
MAX_VALUES = 50_000
MAX_PATTERN_BYTES = 4096
MAX_COUNT = 1_000_000
"""Of minItems, maxLength and the like."""
SOME_WHITESPACE = r" |\r?\n[ \t]{0,64}"
"""A space, or a new line and its indentation. Without a bound, a model that has begun with blanks
may write nothing else to its last token."""
OPTIONS = "x-guidance"
"""llguidance's own options; only this module writes them."""

ONE_SCHEMA = ("additionalProperties", "items", "additionalItems")
SCHEMA_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
SCHEMA_MAPS = ("properties", "patternProperties", "$defs", "definitions")
COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
UNSUPPORTED = frozenset(
    (
        *("not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies"),
        *("contains", "minContains", "maxContains", "uniqueItems", "propertyNames"),
        *("unevaluatedItems", "unevaluatedProperties", "divisibleBy", "disallow", "extends"),
        *("$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"),
    )
)
HARMLESS = {"uniqueItems": False, "unevaluatedItems": True, "unevaluatedProperties": True}
"""Values with which an unsupported keyword asks for nothing."""


@dataclass(frozen=True)
class JsonOptions:
    """`whitespace` between tokens: a regex; None: a usual amount; "": none."""

    whitespace: str | None = None
    close_objects: bool = False
    """Objects that name properties get additionalProperties false where they say nothing."""


ANY_WHITESPACE = JsonOptions()


def schema_spec(schema: Json, param: str, options: JsonOptions = ANY_WHITESPACE) -> GrammarSpec:
    """Raises InvalidRequest, naming `param` and the place in the schema."""
    return make_spec("json_schema", schema_text(schema, param, options), param)


def schema_text(schema: Json, param: str, options: JsonOptions) -> str:
    """The schema as llguidance reads it, options included."""
    if isinstance(schema, str):
        schema = decode_object(schema, param)
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise InvalidRequest(f"{param} must be a JSON schema, an object.", param=param)
    if OPTIONS in schema:
        raise InvalidRequest(f"{param}: `{OPTIONS}` is not allowed.", param=param)
    _check_values(schema, param)
    own = _prepared(schema, param, options) | {OPTIONS: _compile_options(options)}
    return msgspec.json.encode(own).decode()


def _compile_options(options: JsonOptions) -> dict[str, Json]:
    if options.whitespace == "":
        return {"whitespace_flexible": False}
    return {"whitespace_pattern": options.whitespace or SOME_WHITESPACE}


def _check_values(schema: Json, param: str) -> None:
    """Size, depth and numbers of the whole JSON value; iterative, for it may be hostile."""
    todo: list[tuple[Json, int]] = [(schema, 1)]
    seen = 0
    while todo:
        value, depth = todo.pop()
        seen += 1
        if depth > MAX_DEPTH:
            raise _too(param, "deep", f"{MAX_DEPTH} levels")
        if seen > MAX_VALUES:
            raise _too(param, "big", f"{MAX_VALUES} values")
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidRequest(f"{param} holds a number that is not finite.", param=param)
        inner = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | list):
            todo += [(each, depth + 1) for each in inner]


def _too(param: str, how: str, limit: str) -> InvalidRequest:
    return InvalidRequest(f"{param} is too {how}: at most {limit} allowed.", param=param)


def _prepared(schema: Json, param: str, options: JsonOptions) -> dict[str, Json]:
    """A copy of the schema with every subschema checked, and closed where the options say so."""
    copy: dict[str, Json] = msgspec.json.decode(msgspec.json.encode(schema))
    todo: list[Place] = [("", copy)]
    while todo:
        place, each = todo.pop()
        if isinstance(each, bool):
            continue
        if not isinstance(each, dict):
            raise _at(param, place, "a schema must be an object or a boolean")
        _check_keywords(each, param, place)
        if options.close_objects and ("properties" in each or "patternProperties" in each):
            each.setdefault("additionalProperties", False)
        todo += _subschemas(each, param, place)
    return copy


def _check_keywords(schema: dict[str, Json], param: str, place: str) -> None:
    for name in UNSUPPORTED.intersection(schema):
        if schema[name] != HARMLESS.get(name, UNSUPPORTED):
            raise _at(param, place, f"`{name}` is not supported")
        del schema[name]
    for name in COUNTS:
        count = schema.get(name)
        if isinstance(count, int | float) and count > MAX_COUNT:
            raise _at(param, place, f"`{name}` is greater than {MAX_COUNT}")
    patterns = [schema.get("pattern"), *_keys(schema.get("patternProperties"))]
    for pattern in patterns:
        if isinstance(pattern, str) and len(pattern.encode()) > MAX_PATTERN_BYTES:
            raise _at(param, place, f"a pattern is longer than {MAX_PATTERN_BYTES} bytes")
    reference = schema.get("$ref")
    if isinstance(reference, str) and not reference.startswith("#"):
        raise _at(param, place, "`$ref` must point into the schema itself, as `#/$defs/name` does")


def _keys(value: Json) -> list[str]:
    return list(value) if isinstance(value, dict) else []


def _subschemas(schema: dict[str, Json], param: str, place: str) -> Iterator[Place]:
    """Every schema right inside this one, with its place."""
    for name in ONE_SCHEMA:
        if name in schema:
            inner = schema[name]
            # `items` of older drafts is a list, one schema a position.
            many = inner if isinstance(inner, list) and name == "items" else [inner]
            yield from ((f"{place}/{name}", each) for each in many)
    for name in SCHEMA_LISTS:
        if name in schema:
            if not isinstance(schema[name], list):
                raise _at(param, place, f"`{name}` must be a list of schemas")
            yield from ((f"{place}/{name}/{i}", each) for i, each in enumerate(schema[name]))
    for name in SCHEMA_MAPS:
        if name in schema:
            if not isinstance(schema[name], dict):
                raise _at(param, place, f"`{name}` must be an object of schemas")
            yield from ((f"{place}/{name}/{key}", each) for key, each in schema[name].items())


def _at(param: str, place: str, what: str) -> InvalidRequest:
    where = f" at {place[:200]}" if place else ""
    return InvalidRequest(f"{param}{where}: {what}.", param=param)
