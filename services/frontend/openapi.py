"""The OpenAPI document of a table of routes: schemas are those of the structs themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from octavo.services.frontend.replies import ErrorReply
from octavo.services.frontend.served import EVENTS, JSON, ServedRoute
from octavo.shared.version import VERSION

Schema = dict[str, Any]
_PARAMETER = re.compile(r"\{(\w+)(:\w+)?\}")


def openapi_document(served: Sequence[ServedRoute], *, with_keys: bool = False) -> Schema:
    """OpenAPI 3.1; `with_keys`: clients must show an API key."""
    types = list(dict.fromkeys(_types(served)))
    references, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    known = dict(zip(types, references, strict=True))
    document: Schema = {
        "openapi": "3.1.0",
        "info": {"title": "Octavo", "version": VERSION},
        "paths": {_plain(one.path): _path_item(one, known) for one in served},
        "components": {"schemas": components},
    }
    if with_keys:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _types(served: Iterable[ServedRoute]) -> Iterable[Any]:
    yield ErrorReply
    for one in served:
        yield from (t for t in (one.request, one.response, one.event) if t is not None)


def _plain(path: str) -> str:
    """Starlette's `{model:path}` is `{model}`."""
    return _PARAMETER.sub(r"{\1}", path)


def _path_item(one: ServedRoute, known: dict[Any, Schema]) -> Schema:
    item: Schema = {method.lower(): _operation(one, method, known) for method in one.methods}
    if names := _PARAMETER.findall(one.path):
        item["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name, _ in names
        ]
    return item


def _operation(one: ServedRoute, method: str, known: dict[Any, Schema]) -> Schema:
    words = [method.lower(), *re.findall(r"\w+", _plain(one.path))]
    operation: Schema = {
        "summary": one.summary,
        "operationId": "_".join(words),
        "responses": {
            "200": {"description": "The answer", **_content(one, known)},
            "default": {
                "description": "An error",
                "content": {JSON: {"schema": known[ErrorReply]}},
            },
        },
    }
    if one.request is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": known[one.request]}},
        }
    return operation


def _content(one: ServedRoute, known: dict[Any, Schema]) -> Schema:
    content: Schema = {}
    if one.response is not None:
        content[JSON] = {"schema": known[one.response]}
    if one.event is not None:
        # A stream is text; what each `data:` line holds has its schema beside it.
        content[EVENTS] = {"schema": {"type": "string"}, "x-event-schema": known[one.event]}
    if one.media is not None:
        content[one.media] = {"schema": {"type": "string"}}
    return {"content": content} if content else {}
