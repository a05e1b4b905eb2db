"""Fields of a request that this server does not act on: named in a header, or refused.

Without `--strict-requests` an unknown field costs one look at the body's keys; with it, all of
the body is compared with the structs.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any, get_type_hints

import msgspec
from msgspec import inspect
from starlette.requests import Request

from octavo.services.frontend.bounds import Ignored
from octavo.shared.errors import InvalidRequest

HEADER = b"x-octavo-ignored-fields"
MAX_NAMED = 16
_SAFE_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}(?!\n)")
_keys = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NULL = b"null"


def note_fields(request: Request, body: bytes, decoded: object) -> None:
    """Remember what the header is to name. Raises InvalidRequest where strictness is asked for."""
    if not isinstance(decoded, msgspec.Struct):
        return
    kind = type(decoded)
    if request.app.state.service.config.strict_requests:
        _refuse_unknown(body, kind)
    known, without_effect = _known(kind), _without_effect(kind)
    names = [
        name
        for name, value in _keys.decode(body).items()
        if (name not in known or name in without_effect) and bytes(value) != _NULL
    ]
    idle = getattr(decoded, "idle", None)
    if idle is not None:
        names += idle()
    if names:
        request.state.ignored_fields = names
    request.state.request_id = getattr(decoded, "request_id", None)


def noted_headers(state: dict[str, Any], *, with_id: bool) -> list[tuple[bytes, bytes]]:
    """Headers for what was noted; `with_id`: the request's own id is to be among them."""
    found = []
    if names := state.get("ignored_fields"):
        found.append((HEADER, _listed(names).encode()))
    if with_id and (request_id := state.get("request_id")):
        found.append((b"x-request-id", request_id.encode()))
    return found


def _listed(names: list[str]) -> str:
    """At most MAX_NAMED names of harmless characters; "..." stands for the others."""
    safe = [name for name in names if _SAFE_NAME.fullmatch(name)][:MAX_NAMED]
    return ", ".join(safe if len(safe) == len(names) else [*safe, "..."])


@functools.cache
def _known(kind: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(kind))


@functools.cache
def _without_effect(kind: type[msgspec.Struct]) -> frozenset[str]:
    hints = get_type_hints(kind, include_extras=True)
    return frozenset(name for name, hint in hints.items() if hint == Ignored)


def _refuse_unknown(body: bytes, kind: type[msgspec.Struct]) -> None:
    found = list(_unknown(msgspec.json.decode(body), inspect.type_info(kind), ""))
    if found:
        raise InvalidRequest(
            f"Unknown fields: {_listed(found)}.",
            param=found[0] if _SAFE_NAME.fullmatch(found[0]) else None,
            code="unknown_field",
        )


def _unknown(value: Any, kind: inspect.Type, path: str) -> Iterator[str]:
    """Paths of what the structs do not name, as far down as there are structs."""
    for one in kind.types if isinstance(kind, inspect.UnionType) else (kind,):
        if isinstance(one, inspect.Metadata):
            yield from _unknown(value, one.type, path)
        elif isinstance(one, inspect.StructType) and _is_meant(value, one):
            yield from _unknown_keys(value, one, path)
        elif isinstance(one, inspect.ListType) and isinstance(value, list):
            for i, item in enumerate(value):
                yield from _unknown(item, one.item_type, f"{path}[{i}]")


def _is_meant(value: Any, kind: inspect.StructType) -> bool:
    """Whether a value is of this struct, of those that a field may hold."""
    tag = kind.tag_field
    return isinstance(value, dict) and (tag is None or value.get(tag) == kind.tag)


def _unknown_keys(value: dict[str, Any], kind: inspect.StructType, path: str) -> Iterator[str]:
    fields = {field.encode_name: field.type for field in kind.fields}
    for name, inner in value.items():
        where = f"{path}.{name}" if path else name
        if name not in fields and name != kind.tag_field:
            yield where
        elif name in fields:
            yield from _unknown(inner, fields[name], where)
