"""JSON schemas of our own: hand-written ones by what they try, and a generator's.

`ALL` is {name: schema}; every one can be enforced. `REFUSED` cannot: {name: (schema, word of the
error)}.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeAlias

Schema: TypeAlias = Any


def obj(properties: dict[str, Schema], *required: str, **more: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), **more}


def closed(properties: dict[str, Schema], *required: str, **more: Schema) -> Schema:
    return obj(properties, *required, additionalProperties=False, **more)


def array(items: Schema, **more: Schema) -> Schema:
    return {"type": "array", "items": items, **more}


INT: Schema = {"type": "integer"}
TEXT: Schema = {"type": "string"}
SHORT: Schema = {"type": "string", "maxLength": 6}
FLAG: Schema = {"type": "boolean"}
NODE = closed({"value": INT, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}})
TREE = closed({"name": SHORT, "children": array({"$ref": "#/$defs/tree"})}, "name")
EXPRESSION = {
    "anyOf": [
        INT,
        closed(
            {
                "op": {"enum": ["+", "-"]},
                "left": {"$ref": "#/$defs/expr"},
                "right": {"$ref": "#/$defs/expr"},
            },
            "op",
            "left",
            "right",
        ),
    ]
}

TYPES: list[Schema] = [
    {},
    True,
    TEXT,
    INT,
    FLAG,
    {"type": "null"},
    {"type": "number"},
    {"type": "object"},
    {"type": "array"},
    {"type": ["string", "null"]},
    {"type": ["integer", "boolean", "null"]},
    {"type": ["object", "array"]},
    {"type": ["number", "string"], "maxLength": 3, "maximum": 9},
    {"title": "T", "description": "d", "default": 3, "examples": [1], "type": "integer"},
    {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "integer"},
    {"$schema": "http://json-schema.org/draft-07/schema#", "type": "string", "maxLength": 4},
    {"$comment": "c", "readOnly": True, "deprecated": True, "type": "boolean"},
]
ENUMS: list[Schema] = [
    {"enum": ["red", "green", "blue"]},
    {"enum": [1, 2, 3]},
    {"enum": [1.5, -2.25, 1e10]},
    {"enum": [True, None, "x", 3, [1, 2], {"a": 1}]},
    {"enum": ["", " ", '"', "\\", "\n"]},
    {"enum": ["日本", "été", "😀", "\u200b"]},
    {"enum": ["a", "ab", "abc"]},
    {"enum": [f"value {i}" for i in range(300)]},
    {"enum": ["x"], "type": "string"},
    {"enum": ["x", 1, None], "type": ["string", "null"]},
    {"const": "exactly"},
    {"const": 42},
    {"const": None},
    {"const": True},
    {"const": [1, [2, "three"]]},
    {"const": {"b": 1, "a": {"c": []}}},
    {"const": -0.5},
    {"const": ""},
    closed({"kind": {"const": "dog"}, "age": INT}, "kind"),
    array({"enum": ["a", "b"]}, maxItems=3),
]
STRINGS: list[Schema] = [
    {"type": "string", "minLength": 3},
    {"type": "string", "maxLength": 0},
    {"type": "string", "minLength": 2, "maxLength": 2},
    {"type": "string", "maxLength": 500},
    {"type": "string", "pattern": "^[a-z]+$"},
    {"type": "string", "pattern": "^\\d{3}-\\d{4}$"},
    {"type": "string", "pattern": "abc"},
    {"type": "string", "pattern": "^(a|bb|ccc){1,4}$"},
    {"type": "string", "pattern": '^[^\\s"\\\\]{1,8}$'},
    {"type": "string", "pattern": "^$"},
    {"type": "string", "pattern": "^[A-Z]{2}\\d*$", "maxLength": 6},
    {"type": "string", "pattern": "^\\w+@\\w+\\.(com|org)$"},
    {"type": "string", "pattern": "^[äöü]{1,3}$"},
    {"type": "string", "pattern": "^(yes|no)$"},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "time"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "duration"},
    {"type": "string", "format": "email"},
    {"type": "string", "format": "hostname"},
    {"type": "string", "format": "ipv4"},
    {"type": "string", "format": "ipv6"},
    {"type": "string", "format": "uuid"},
    {"type": "string", "format": "uri"},
]
NUMBERS: list[Schema] = [
    {"type": "integer", "minimum": 0},
    {"type": "integer", "maximum": -1},
    {"type": "integer", "minimum": 10, "maximum": 99},
    {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
    {"type": "integer", "minimum": -5, "maximum": 5},
    {"type": "integer", "minimum": 1000, "maximum": 123456},
    {"type": "integer", "multipleOf": 5},
    {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 100},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number", "exclusiveMinimum": 0},
    {"type": "number", "minimum": -1.5, "maximum": 2.25},
    {"type": "number", "exclusiveMinimum": 0.1, "exclusiveMaximum": 0.2},
    {"type": "number", "multipleOf": 0.5, "minimum": 0, "maximum": 10},
    {"type": "number", "minimum": 1e3, "maximum": 1e6},
    {"type": "integer", "const": 7},
    {"minimum": 3, "maximum": 8, "type": "integer"},
]
OBJECTS: list[Schema] = [
    closed({}),
    closed({"a": INT}),
    closed({"a": INT}, "a"),
    obj({"a": INT}, "a"),
    closed({"a": INT, "b": SHORT, "c": FLAG}, "b"),
    closed({"a": INT, "b": SHORT, "c": FLAG}, "a", "b", "c"),
    closed({"c": INT, "b": INT, "a": INT}, "a", "b", "c"),
    obj({"a": INT}, additionalProperties=SHORT),
    obj({"a": INT}, "a", additionalProperties={"type": "null"}),
    {"type": "object", "additionalProperties": INT},
    {"type": "object", "additionalProperties": array(FLAG)},
    {"type": "object", "patternProperties": {"^x_": INT}, "additionalProperties": False},
    {"type": "object", "patternProperties": {"^n\\d+$": INT, "^s\\d+$": SHORT}},
    {"type": "object", "required": ["id"]},
    {"type": "object", "required": ["id"], "additionalProperties": INT},
    {"type": "object", "minProperties": 1},
    {"type": "object", "maxProperties": 1},
    {"type": "object", "maxProperties": 0},
    closed({"日本語": INT, "ключ": SHORT, "😀": FLAG}, "日本語", "😀"),
    closed({"": INT, " ": INT, 'quo"te': INT, "back\\slash": INT, "new\nline": INT}, "", 'quo"te'),
    closed({"a/b": INT, "~t": INT, "$ref": INT, "%": INT}, "a/b", "$ref"),
    closed({"type": SHORT, "properties": INT, "required": FLAG}, "type"),
    closed({"o": closed({"p": closed({"q": INT}, "q")}, "p")}, "o"),
    closed({f"k{i}": FLAG for i in range(30)}, *(f"k{i}" for i in range(30))),
    closed({f"k{i}": FLAG for i in range(30)}),
    closed({"a": True, "b": {}}, "a", "b"),
    obj({"a": False}),
    {"properties": {"a": INT}, "required": ["a"]},
]
ARRAYS: list[Schema] = [
    array(INT),
    array(INT, minItems=1),
    array(INT, maxItems=0),
    array(SHORT, minItems=2, maxItems=4),
    array(array(array(INT, maxItems=2), maxItems=2), maxItems=2),
    array({"anyOf": [INT, SHORT]}),
    array(closed({"x": INT, "y": INT}, "x", "y"), minItems=1, maxItems=3),
    {"type": "array", "prefixItems": [INT, SHORT], "items": False},
    {"type": "array", "prefixItems": [INT, SHORT], "items": False, "minItems": 2},
    {"type": "array", "prefixItems": [INT, SHORT], "items": FLAG, "minItems": 3, "maxItems": 5},
    {"type": "array", "prefixItems": [INT]},
    {"type": "array", "prefixItems": [{"const": "point"}, {"type": "number"}], "minItems": 1},
    {"type": "array", "items": False},
    {"type": "array", "uniqueItems": False, "items": INT},
    {"items": INT, "type": ["array", "null"]},
]
COMBINED: list[Schema] = [
    {"anyOf": [INT, SHORT]},
    {"anyOf": [closed({"a": INT}, "a"), closed({"b": INT}, "b")]},
    {"anyOf": [{"type": "null"}, closed({"a": INT})]},
    {"anyOf": [{"const": 1}, {"const": "1"}, {"const": None}]},
    {"oneOf": [INT, SHORT]},
    {"oneOf": [{"type": "null"}, FLAG, array(INT)]},
    {
        "oneOf": [
            closed({"kind": {"const": "cat"}, "lives": INT}, "kind"),
            closed({"kind": {"const": "dog"}, "breed": SHORT}, "kind", "breed"),
        ]
    },
    {"oneOf": [{"enum": ["a", "b"]}, {"enum": ["c", 4]}]},
    {"allOf": [INT, {"minimum": 3}, {"maximum": 30}]},
    {"allOf": [obj({"a": INT}, "a"), obj({"b": SHORT}, "b")]},
    {"allOf": [{"type": "string", "minLength": 2}, {"type": "string", "maxLength": 5}]},
    {"allOf": [{"type": ["string", "integer"]}, {"type": ["integer", "null"]}]},
    {"allOf": [{"anyOf": [INT, SHORT]}, {"anyOf": [INT, FLAG]}]},
    {"allOf": [{"enum": [1, 2, 3]}, {"enum": [2, 3, 4]}]},
    {"type": "string", "anyOf": [{"maxLength": 2}, {"pattern": "^x+$"}]},
    obj({"a": INT}, "a", allOf=[obj({"b": FLAG}, "b")]),
    {"anyOf": [{"anyOf": [INT, {"anyOf": [FLAG, SHORT]}]}, {"type": "null"}]},
    {"anyOf": [TEXT], "description": "one only"},
    {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": INT}},
]
REFERENCES: list[Schema] = [
    {"$ref": "#/$defs/a", "$defs": {"a": INT}},
    {"$ref": "#/definitions/a", "definitions": {"a": SHORT}},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": FLAG}},
    {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
    {"$ref": "#/$defs/tree", "$defs": {"tree": TREE}},
    {"$ref": "#/$defs/expr", "$defs": {"expr": EXPRESSION}},
    closed({"self": {"$ref": "#"}, "v": INT}),
    closed({"items": array({"$ref": "#"}, maxItems=2)}),
    closed({"a": {"$ref": "#/properties/b"}, "b": INT}, "a", "b"),
    {"$ref": "#/$defs/a~1b", "$defs": {"a/b": INT}},
    {"$ref": "#/$defs/a%20b", "$defs": {"a b": INT}},
    {"$ref": "#/$defs/n", "minimum": 5, "$defs": {"n": INT}},
    closed({"x": {"$ref": "#/$defs/p"}, "y": {"$ref": "#/$defs/p"}}, "x")
    | {"$defs": {"p": closed({"lat": INT, "lon": INT}, "lat", "lon")}},
    {
        "$ref": "#/$defs/even",
        "$defs": {
            "even": array({"$ref": "#/$defs/odd"}, maxItems=1),
            "odd": closed({"e": {"$ref": "#/$defs/even"}}),
        },
    },
    {"$defs": {"unused": {"type": "string"}}, "type": "integer"},
    {"$id": "https://example.org/s", "$ref": "#/$defs/a", "$defs": {"a": INT}},
    {"$ref": "#named", "$defs": {"a": {"$anchor": "named", "type": "integer"}}},
]
LIKE_USERS: list[Schema] = [
    closed(
        {
            "name": TEXT,
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "email": {"type": "string", "format": "email"},
            "tags": array(SHORT, maxItems=5),
            "address": closed({"street": TEXT, "zip": {"type": "string", "pattern": "^\\d{5}$"}}),
        },
        "name",
        "age",
    ),
    closed(
        {
            "steps": array(closed({"explanation": TEXT, "output": TEXT}, "explanation", "output")),
            "final_answer": TEXT,
        },
        "steps",
        "final_answer",
    ),
    closed(
        {
            "tool": {"enum": ["search", "open", "stop"]},
            "arguments": {"type": "object", "additionalProperties": SHORT},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "tool",
        "arguments",
    ),
    array(
        closed(
            {
                "id": {"type": "string", "format": "uuid"},
                "at": {"type": "string", "format": "date-time"},
                "price": {"type": "number", "exclusiveMinimum": 0},
                "currency": {"enum": ["EUR", "USD"]},
                "note": {"anyOf": [SHORT, {"type": "null"}], "default": None},
            },
            "id",
            "price",
        ),
        maxItems=3,
    ),
]
WRITTEN = {
    "types": TYPES,
    "enums": ENUMS,
    "strings": STRINGS,
    "numbers": NUMBERS,
    "objects": OBJECTS,
    "arrays": ARRAYS,
    "combined": COMBINED,
    "references": REFERENCES,
    "users": LIKE_USERS,
}
REFUSED: dict[str, tuple[Schema, str]] = {
    "false": (False, "JSON schema"),
    "not": ({"not": INT}, "`not`"),
    "if": ({"if": INT, "then": INT}, "` is not supported"),
    "unique": (array(INT, uniqueItems=True), "`uniqueItems`"),
    "contains": ({"type": "array", "contains": INT}, "`contains`"),
    "nested": (closed({"a": array({"not": INT})}), "at /properties/a/items: `not`"),
    "dependent": ({"dependentRequired": {"a": ["b"]}}, "`dependentRequired`"),
    "dynamic": ({"$dynamicRef": "#a"}, "`$dynamicRef`"),
    "names": ({"type": "object", "propertyNames": {"maxLength": 3}}, "`propertyNames`"),
    "remote": ({"$ref": "https://example.org/s"}, "`$ref` must point"),
    "options": ({"x-guidance": {"lenient": True}}, "`x-guidance`"),
    "not a schema": (closed({"a": 3}), "at /properties/a: a schema must be"),
    "list": ({"anyOf": INT}, "`anyOf` must be a list"),
    "map": ({"properties": [INT]}, "`properties` must be an object"),
    "pattern": ({"type": "string", "pattern": "a" * 5000}, "a pattern is longer"),
    "count": ({"type": "string", "minLength": 10**9}, "`minLength` is greater"),
}
COMPILED_AND_REFUSED: dict[str, tuple[Schema, str]] = {
    "type": ({"type": "text"}, "Invalid type"),
    "format": ({"type": "string", "format": "shoe-size"}, "Unknown format"),
    "overlapping oneOf": ({"oneOf": [{"type": "number"}, INT]}, "oneOf"),
    "empty enum": ({"enum": []}, "Unsatisfiable"),
    "range": ({"type": "integer", "minimum": 5, "maximum": 3}, "Unsatisfiable"),
    "incompatible": ({"allOf": [INT, TEXT]}, "Unsatisfiable"),
    "required": (closed({}, "a"), "Unsatisfiable"),
    "pointer": ({"$ref": "#/$defs/missing"}, "missing"),
    "cycle": ({"$ref": "#"}, "no text matches it"),
    "two cycles": (
        {
            "$ref": "#/$defs/a",
            "$defs": {
                "a": {"$ref": "#/$defs/b"},
                "b": {"$ref": "#/$defs/a"},
            },
        },
        "no text matches it",
    ),
    "look-ahead": ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
    "bad pattern": ({"type": "string", "pattern": "("}, "unclosed group"),
    "min properties": (closed({"a": INT, "b": INT}, minProperties=2), "min/maxProperties"),
}
ENDLESS: list[Schema] = [
    closed({"a": {"$ref": "#"}}, "a"),
    array({"$ref": "#"}, minItems=1),
    {"$ref": "#/$defs/n", "$defs": {"n": closed({"next": {"$ref": "#/$defs/n"}}, "next")}},
    {"anyOf": [array({"$ref": "#"}, minItems=1), closed({"a": {"$ref": "#"}}, "a")]},
    {"type": "array", "prefixItems": [INT, {"$ref": "#"}], "minItems": 2},
]


class Generator:
    """Random schemas, all of which can be enforced and satisfied."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def schema(self, depth: int) -> Schema:
        kinds: list[Callable[[int], Schema]] = [self.number, self.text, self.choice, self.flag]
        if depth:
            kinds += [self.object, self.object, self.array, self.tuple, self.any_of, self.one_of]
        return self.rng.choice(kinds)(depth)

    def document(self, depth: int) -> Schema:
        """A schema whose root may have definitions, of which one may call itself."""
        if self.rng.random() < 0.6:
            return self.schema(depth)
        again = {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/self"}]}
        name = closed({"v": self.schema(0), "again": again}, "v")
        first: Schema = {"$ref": "#/$defs/self"}
        if self.rng.random() < 0.5:
            first = closed({"a": first, "b": {"$ref": "#/$defs/other"}}, "a")
        return first | {"$defs": {"self": name, "other": self.schema(1)}}

    def number(self, depth: int) -> Schema:
        schema: Schema = {"type": self.rng.choice(["integer", "number"])}
        low = self.rng.randint(-1000, 1000)
        if self.rng.random() < 0.5:
            schema[self.rng.choice(["minimum", "exclusiveMinimum"])] = low
        if self.rng.random() < 0.5:
            schema[self.rng.choice(["maximum", "exclusiveMaximum"])] = low + self.rng.randint(
                3, 500
            )
        return schema

    def text(self, depth: int) -> Schema:
        schema: Schema = {"type": "string"}
        if self.rng.random() < 0.3:
            patterns = ["^[a-f]{2,5}$", "^x\\d+$", "^(ab)*$", "[0-9]", "^[A-Z][a-z]*$"]
            return schema | {"pattern": self.rng.choice(patterns)}
        low = self.rng.randint(0, 4)
        if self.rng.random() < 0.5:
            schema["minLength"] = low
        if self.rng.random() < 0.7:
            schema["maxLength"] = low + self.rng.randint(0, 12)
        return schema

    def choice(self, depth: int) -> Schema:
        values = ["a", "b", "é", "", 1, -3, 2.5, None, True, [1], {"k": "v"}, "long text", "\t"]
        picked = self.rng.sample(values, self.rng.randint(1, 5))
        return {"const": picked[0]} if self.rng.random() < 0.3 else {"enum": picked}

    def flag(self, depth: int) -> Schema:
        return {"type": self.rng.choice(["boolean", "null", ["boolean", "null"]])}

    def object(self, depth: int) -> Schema:
        names = ["id", "name", "größe", "名", "a b", "x", "y", "$", "'", "_"]
        picked = self.rng.sample(names, self.rng.randint(0, 5))
        required = [name for name in picked if self.rng.random() < 0.5]
        schema = obj({name: self.schema(depth - 1) for name in picked}, *required)
        extra = self.rng.choice([None, False, False, {"type": "integer"}])
        return schema if extra is None else schema | {"additionalProperties": extra}

    def array(self, depth: int) -> Schema:
        low = self.rng.randint(0, 2)
        schema = array(self.schema(depth - 1), maxItems=low + self.rng.randint(0, 3))
        return schema | {"minItems": low} if self.rng.random() < 0.5 else schema

    def tuple(self, depth: int) -> Schema:
        first = [self.schema(depth - 1) for _ in range(self.rng.randint(1, 3))]
        schema: Schema = {"type": "array", "prefixItems": first, "items": False}
        return schema | {"minItems": len(first)} if self.rng.random() < 0.5 else schema

    def any_of(self, depth: int) -> Schema:
        return {"anyOf": [self.schema(depth - 1) for _ in range(self.rng.randint(1, 3))]}

    def one_of(self, depth: int) -> Schema:
        """Told apart by a constant, so that llguidance can see that they exclude each other."""
        return {
            "oneOf": [
                closed({"kind": {"const": f"k{i}"}, "v": self.schema(depth - 1)}, "kind")
                for i in range(self.rng.randint(1, 3))
            ]
        }


GENERATED = 180


def _all() -> dict[str, Schema]:
    written = {
        f"{group}-{i}": schema
        for group, schemas in WRITTEN.items()
        for i, schema in enumerate(schemas)
    }
    drawn = {f"drawn-{i}": Generator(i).document(1 + i % 3) for i in range(GENERATED)}
    return written | drawn


ALL = _all()
GROUPS = [*WRITTEN, *(f"drawn-{digit}" for digit in range(1, 10))]
"""Beginnings of the names."""
