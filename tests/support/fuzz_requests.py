"""Generated requests, valid and not, for every route that is served.

Request `number` of a seed is always the same one. Bodies follow the request structs of the table of
routes, so a route that is new is in it by being served; `SENSIBLE` says what makes a body worth
the engine's time.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from msgspec import inspect

from octavo.services.frontend.app import SERVED
from octavo.services.frontend.served import ServedRoute

WORDS = ("What", "is", "the", "capital", "of", "France?", "12 + 30", "Ada", "你好", "😀", "é", "\n")
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 17, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**40),
    *(0.0, -0.0, 1e-320, 1e308, 0.5, -3.7, "", "x", "\x00", "\ud7ff\ufffd", "é" * 300, "x" * 5000),
    *([], [[]], [None], ["x"], [1, 2], [-1], [10**9], {}, {"a": 1}, {"type": "x"}, {"": None}),
)
WEIGHTS = {
    "/v1/chat/completions": 12,
    "/v1/completions": 10,
    "/v1/messages": 6,
    "/v1/responses": 6,
}


@dataclass(frozen=True)
class FuzzRequest:
    """`leaves_after`: the client goes so many seconds after it has sent `sent` bytes of it."""

    number: int
    method: str
    path: str
    body: bytes
    leaves_after: float | None = None
    cut: float = 1.0

    def head(self) -> bytes:
        return (
            f"{self.method} {self.path} HTTP/1.1\r\nHost: fuzz\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(self.body)}\r\n\r\n"
        ).encode()


class RawRequest(FuzzRequest):
    """`body`: all of it, head included. It may want more, and then has no answer coming."""

    def head(self) -> bytes:
        return b""


class Fuzzer:
    """`max_tokens`: of most generations, so that an engine on a CPU keeps up."""

    def __init__(self, seed: int, model: str = "demo", max_tokens: int = 8) -> None:
        self._seed = seed
        self._model = model
        self._max_tokens = max_tokens
        self._weights = [WEIGHTS.get(one.path, 2) for one in SERVED]
        # Its answer goes on for a minute, whatever is asked.
        self._weights[[one.path for one in SERVED].index("/ui/events")] = 0

    def request(self, number: int) -> FuzzRequest:
        rng = Random(f"{self._seed}:{number}")
        route = rng.choices(SERVED, self._weights)[0]
        method = rng.choice(route.methods)
        path = route.path.replace("{model:path}", rng.choice([self._model, "a/b", "%00"]))
        if rng.random() < 0.02:
            method, path = (
                rng.choice(["GET", "POST", "PUT", "HEAD"]),
                rng.choice([path, "/x", "//"]),
            )
        body = self._body(route, rng) if method != "GET" else b""
        if rng.random() < 0.08:
            leaves = rng.choice([0.0, 0.001, 0.02, 0.2])
            return FuzzRequest(number, method, path, body, leaves, rng.choice([0.5, 1.0, 1.0]))
        return FuzzRequest(number, method, path, body)

    def _body(self, route: ServedRoute, rng: Random) -> bytes:
        if route.request is None:
            return b""
        info = inspect.type_info(route.request)
        value = copy.deepcopy(_struct(info, rng, self._sensible(rng)))
        if rng.random() < 0.4:
            _spoil(value, info, rng)
        if rng.random() < 0.05:
            value[rng.choice(["bogus", "x\r\ny", "guided_json", "é"])] = _odd(rng)
        body = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "replace")
        return _corrupt(body, rng) if rng.random() < 0.05 else body

    def _sensible(self, rng: Random) -> dict[str, Callable[[], Any]]:
        """By field name, values that mostly lead to an answer."""

        def text() -> str:
            return " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))

        def tokens() -> int:
            return rng.randint(1, self._max_tokens)

        return {
            "model": lambda: rng.choice([self._model, self._model, None]),
            "messages": lambda: _messages(rng, text),
            "prompt": lambda: rng.choice([text(), [text(), text()], [5, 6, 7], [[5], [6, 7]]]),
            "input": lambda: rng.choice([text(), [text()]]),
            "query": text,
            "documents": lambda: [text(), text()] if rng.random() < 0.5 else [{"text": text()}],
            "tokens": lambda: [rng.randint(0, 300) for _ in range(rng.randint(0, 20))],
            "max_tokens": tokens,
            "max_completion_tokens": tokens,
            "max_output_tokens": tokens,
            "min_tokens": lambda: 0,
            "n": lambda: rng.choice([1, 1, 2, 3]),
            "stream": lambda: rng.random() < 0.5,
            "temperature": lambda: rng.choice([0, 0.7, 1.5]),
            "stop": lambda: rng.choice(["a", [" the", "."], None]),
            "stop_token_ids": lambda: [rng.randint(0, 300)],
            "logit_bias": lambda: {str(rng.randint(0, 300)): rng.choice([-100, 1.5, 100])},
            "allowed_token_ids": lambda: [rng.randint(0, 300) for _ in range(5)],
            "bad_words": lambda: [text()[:20] or "x"],
            "chat_template": lambda: None,
            "response_format": lambda: rng.choice(FORMATS),
            "structured_outputs": lambda: rng.choice(STRUCTURED),
            "tools": lambda: [TOOL],
            "tool_choice": lambda: rng.choice(["auto", "none", "required", TOOL]),
            "repetition_detection": lambda: {"max_pattern_size": 4, "min_count": 2},
            "encoding_format": lambda: rng.choice(["float", "base64"]),
        }


FORMATS: tuple[Any, ...] = (
    {"type": "text"},
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}},
    {"type": "json_schema"},
    {"type": "nothing"},
)
STRUCTURED: tuple[Any, ...] = (
    {"json": SCHEMA},
    {"regex": "[a-z]{1,5}"},
    {"regex": "(a+)+b"},
    {"regex": "("},
    {"choice": ["yes", "no"]},
    {"grammar": 'root ::= "a" | "b"'},
    {"json": {"type": "nothing"}},
    {},
)
REQUIRED_CHANCE = 0.97
FIELD_CHANCE = 0.08


def _messages(rng: Random, text: Callable[[], str]) -> list[dict[str, Any]]:
    roles = ["user"] if rng.random() < 0.7 else ["system", "user", "assistant", "user"]
    messages: list[dict[str, Any]] = [{"role": role, "content": text()} for role in roles]
    if rng.random() < 0.1:
        messages[-1]["content"] = [{"type": "text", "text": text()}]
    return messages


ALWAYS = {"messages", "prompt", "max_tokens", "max_output_tokens", "tokens", "input", "query"}


def _struct(
    info: inspect.Type, rng: Random, sensible: dict[str, Callable[[], Any]]
) -> dict[str, Any]:
    if not isinstance(info, inspect.StructType):
        return {}
    value: dict[str, Any] = {}
    for field in info.fields:
        name = field.encode_name
        wanted = field.required or name in ALWAYS
        if rng.random() > (REQUIRED_CHANCE if wanted else FIELD_CHANCE):
            continue
        make = sensible.get(name)
        value[name] = make() if make is not None else _value(field.type, rng, sensible)
    if info.tag_field:
        value[info.tag_field] = info.tag
    return value


def _value(kind: inspect.Type, rng: Random, sensible: dict[str, Callable[[], Any]]) -> Any:
    """A value of the type, mostly within its bounds."""
    match kind:
        case inspect.UnionType():
            return _value(rng.choice(kind.types), rng, sensible)
        case inspect.Metadata():
            return _value(kind.type, rng, sensible)
        case inspect.StructType():
            return _struct(kind, rng, sensible)
        case inspect.ListType():
            return [_value(kind.item_type, rng, sensible) for _ in range(rng.randint(0, 3))]
        case inspect.DictType():
            return {rng.choice(WORDS): _value(kind.value_type, rng, sensible) for _ in range(2)}
        case inspect.LiteralType():
            return rng.choice(kind.values)
        case inspect.BoolType():
            return rng.random() < 0.5
        case inspect.NoneType():
            return None
        case inspect.StrType():
            return rng.choice(WORDS)
        case inspect.IntType() | inspect.FloatType():
            return _number(kind, rng)
    return _odd(rng)


def _number(kind: inspect.IntType | inspect.FloatType, rng: Random) -> float:
    low, high = kind.ge or 0, kind.le or 0
    small = rng.randint(0, 9) if isinstance(kind, inspect.IntType) else rng.random() * 2
    inside = min(max(small, low), high)
    return rng.choice([inside, inside, inside, low, high, low - 1, high + 1])


def _spoil(value: dict[str, Any], info: inspect.Type, rng: Random) -> None:
    """Put something odd into a field or two, some levels down."""
    names = [one.encode_name for one in info.fields] if isinstance(info, inspect.StructType) else []
    for _ in range(rng.randint(1, 2)):
        place: Any = value
        name: Any = rng.choice(names or ["x"])
        while isinstance(place.get(name), dict) and place[name] and rng.random() < 0.6:
            place, name = place[name], rng.choice(list(place[name]))
        place[name] = _deep(rng.randint(50, 90)) if rng.random() < 0.05 else _odd(rng)


def _odd(rng: Random) -> Any:
    return copy.deepcopy(rng.choice(ODD))  # what is put in may be spoilt in turn


def _deep(depth: int) -> Any:
    value: Any = "x"
    for i in range(depth):
        value = [value] if i % 2 else {"a": value}
    return value


def _corrupt(body: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(body) + 1)
    return rng.choice(
        [
            body[:at],
            body[:at] + b"\xff" + body[at:],
            body + b"]",
            b"\xef\xbb\xbf" + body,
            body.replace(b": ", b": NaN,", 1),
            body.replace(b'"', b'"\\ud800', 1),
            b"[" * 3000,
            body[:-1] + b', "temperature": 9, "temperature": 0.5}',
            b"",
        ]
    )
