"""Grammars of clients that mean no good: {name: fields of structured_outputs}."""

from __future__ import annotations

from typing import Any

from grammar_schemas import INT


def _nested(depth: int) -> Any:
    schema: Any = INT
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def _choices(width: int) -> Any:
    """2 ** width combinations."""
    pairs = [
        [
            {"type": "object", "properties": {f"p{i}{k}": INT}, "required": [f"p{i}{k}"]}
            for k in "ab"
        ]
        for i in range(width)
    ]
    return {"allOf": [{"anyOf": pair} for pair in pairs]}


def _doubling(depth: int) -> Any:
    """Each definition meets the next one twice, in an intersection."""
    defs: dict[str, Any] = {f"e{i}": {"properties": {f"k{i}": INT}} for i in range(depth + 1)}
    for i in range(depth):
        both = {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/e{i + 1}"}]}
        defs[f"d{i}"] = {"allOf": [both, both]}
    defs[f"d{depth}"] = {"type": "object"}
    return {"$ref": "#/$defs/d0", "$defs": defs}


def _rules(lines: int) -> str:
    rules = "\n".join(f"r{i}: r{i + 1} r{i + 1} |" for i in range(lines))
    return f'start: r0\n{rules}\nr{lines}: "a"'


HOSTILE: dict[str, dict[str, Any]] = {
    "deep json": {"json": _nested(5000)},
    "deep text": {"json": '{"items":' * 100_000},
    "combinations": {"json": _choices(24)},
    "doubling": {"json": _doubling(24)},
    "a megabyte": {"json": {"enum": ["x" * (1 << 20)]}},
    "many properties": {
        "json": {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(6000)}}
    },
    "a large divisor": {"json": {"type": "integer", "multipleOf": 999_983}},
    "two divisors": {
        "json": {"allOf": [{"type": "integer", "multipleOf": n} for n in (99_991, 99_989)]}
    },
    "patterns that intersect": {
        "json": {"allOf": [{"type": "string", "pattern": f"a.{{{i}}}b"} for i in range(40)]}
    },
    "an exponential pattern": {
        "json": {"type": "string", "pattern": "(a|b)*a(a|b){500}", "minLength": 1000}
    },
    "a cycle": {"json": {"$ref": "#"}},
    "a count that each mask counts anew": {"regex": "a{100000}"},
    "a count without an end": {"regex": "a{999999999}"},
    # Outputs of these two would run into a limit in the middle.
    "dots": {"regex": "(.{0,1000}){0,100}x"},
    "repeated rules": {"grammar": 'start: a{1000}\na: b{1000}\nb: "x"{1000}'},
    "a deep regex": {"regex": "(" * 100_000 + "a" + ")" * 100_000},
    "a deep grammar": {"grammar": "start: " + "(" * 50_000 + '"a"' + ")" * 50_000},
    "a deep gbnf": {"grammar": "root ::= " + "(" * 50_000 + '"a"' + ")" * 50_000},
    "a lark cycle": {"grammar": "start: a\na: start"},
    "doubling rules": {"grammar": _rules(5000)},
    "long gbnf": {
        "grammar": "root ::= r0\n"
        + "\n".join(f"r{i} ::= r{i + 1}" for i in range(5000))
        + '\nr5000 ::= "a"'
    },
    "many optionals": {"grammar": "start: " + " ".join(['"a"?'] * 20_000)},
    "many schemas": {"grammar": "start: " + " ".join(['%json {"type": "object"}'] * 8000)},
    "terminals that intersect": {
        "grammar": "start: A\nA: " + " & ".join(f"/.*a.{{{i}}}b.*/" for i in range(60))
    },
}
"""Each is to be refused."""

COSTLY: dict[str, dict[str, Any]] = {
    "nested plus": {"regex": "(a+)+b"},
    "nested counts": {"regex": "(a{0,1000}){0,1000}"},
    "exponential": {"regex": r"(.|\n)*a(.|\n){30}b"},
    "long memory": {"regex": "[ab]*a[ab]{200}"},
    "wide": {"regex": r"\w{0,10000}"},
    "long arrays": {"json": {"type": "array", "items": INT, "minItems": 1_000_000}},
    "long strings": {"json": {"type": "string", "minLength": 1_000_000}},
}
"""Each compiles; walking through it may end in a failed matcher, but never in more."""
