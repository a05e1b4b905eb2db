"""One bounded schema: no string, list, object or number of any request is without a bound."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from octavo.services.frontend import json_shape
from octavo.services.frontend.app import SERVED
from octavo.services.frontend.bounds import Ignored, Json, Refused
from octavo.services.frontend.json_shape import MAX_DEPTH, check_shape
from octavo.shared.errors import InvalidRequest

REQUESTS = [one.request for one in SERVED if one.request is not None]
ANY_JSON = {t.__metadata__[0].description for t in (Json, Refused, Ignored)}
"""What a field of any JSON must say it is; the bounds of a body hold for it."""


def unbounded(kind: inspect.Type, path: str) -> Iterator[str]:
    match kind:
        case inspect.UnionType():
            for one in kind.types:
                yield from unbounded(one, path)
        case inspect.Metadata(type=inspect.AnyType()):
            if (kind.extra_json_schema or {}).get("description") not in ANY_JSON:
                yield path
        case inspect.Metadata():
            yield from unbounded(kind.type, path)
        case inspect.StructType():
            for field in kind.fields:
                yield from unbounded(field.type, f"{path}.{field.encode_name}")
        case inspect.StrType() | inspect.BytesType():
            if kind.max_length is None:
                yield path
        case inspect.IntType() | inspect.FloatType():
            if None in (kind.ge if kind.gt is None else kind.gt, kind.le or kind.lt):
                yield path
        case inspect.ListType():
            if kind.max_length is None:
                yield path
            yield from unbounded(kind.item_type, f"{path}[]")
        case inspect.DictType():
            if kind.max_length is None:
                yield path
            yield from unbounded(kind.key_type, f"{path}<key>")
            yield from unbounded(kind.value_type, f"{path}{{}}")
        case inspect.BoolType() | inspect.NoneType() | inspect.LiteralType():
            pass
        case _:
            yield path


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: str(kind.__name__))
def test_every_field_is_bounded(kind: Any) -> None:
    assert list(unbounded(inspect.type_info(kind), kind.__name__)) == []


class Inner(msgspec.Struct):
    x: int = 0


class Loose(msgspec.Struct):
    a: str | None = None
    b: list[bool] = []
    c: dict[str, Any] = {}
    d: Inner | None = None
    e: float = 0.0


def test_the_walk_finds_what_is_not_bounded() -> None:
    found = set(unbounded(inspect.type_info(Loose), ""))
    assert found == {".a", ".b", ".c", ".c<key>", ".c{}", ".d.x", ".e"}


def test_every_post_route_says_what_it_takes() -> None:
    bare = {one.path for one in SERVED if "POST" in one.methods and one.request is None}
    assert bare <= {"/ping"}


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"[]" + b"}" * (depth - 1)


def refused(body: bytes) -> bool:
    try:
        check_shape(body)
    except InvalidRequest as error:
        assert error.code == "body_too_deep"
        return True
    return False


@pytest.mark.parametrize("wrap", [b"%s", b'[%s, "[[["]', b'["\\\\", %s]', b'["\\"", %s, "}"]'])
def test_depth(wrap: bytes) -> None:
    outer = int(wrap != b"%s")
    assert not refused(wrap % nested(MAX_DEPTH - outer))
    assert refused(wrap % nested(MAX_DEPTH + 1 - outer))


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


JSON = st.recursive(
    st.none() | st.text('[]{}"\\a'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\'), inner),
    max_leaves=30,
)


@given(JSON)
def test_depth_of_any_json(value: Any) -> None:
    body = msgspec.json.encode(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_shape, "MAX_DEPTH", 2)
        assert refused(body) == (depth_of(value) > 2)


def test_hostile_bodies_are_told_at_once() -> None:
    bodies = [
        b"[" * (8 << 20),
        b"[]," * (2 << 20),
        nested(64) * 10_000,
        b'"\\' * (4 << 20),
        b'["' + b'\\"[' * (2 << 20) + b'"]' + b"[" * 99,
    ]
    for body in bodies:
        start = time.process_time()
        refused(body)
        assert time.process_time() - start < 1.0


def test_many_messages_are_not_deep() -> None:
    body = msgspec.json.encode({"messages": [{"content": [{"text": "[{"}]}] * 4096})
    assert not refused(body)
