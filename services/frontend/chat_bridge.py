"""What the APIs share that are answered by a chat completion of another form."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec

from octavo.services.frontend.edge import invalid_request
from octavo.services.frontend.schema import ChatRequest
from octavo.services.frontend.service import Head, Service
from octavo.shared.errors import RequestError


def own_head(prefix: str, model: str, service: Service) -> Head:
    """With an id as these APIs write it, `msg_…`, rather than a chat's."""
    head = Head.new(prefix, model, service)
    return dataclasses.replace(head, id=head.id.replace("-", "_", 1))


def chat_of(fields: dict[str, Any]) -> ChatRequest:
    """A chat request of these fields. Raises InvalidRequest as if a client had written them."""
    present = {name: value for name, value in fields.items() if value is not None}
    try:
        return msgspec.convert(present, ChatRequest)
    except msgspec.ValidationError as error:
        raise invalid_request(error) from error


def function_tool(
    name: str, description: str | None, parameters: dict[str, Any] | None, strict: bool | None
) -> dict[str, Any]:
    rest = {"description": description, "parameters": parameters, "strict": strict}
    present = {field: value for field, value in rest.items() if value is not None}
    return {"type": "function", "function": {"name": name, **present}}


def function_call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    """`arguments`: JSON text."""
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def renamed(error: RequestError, names: Mapping[str, str]) -> RequestError:
    """What a chat refused, under the name that the client knows; `names`: a chat's and theirs."""
    name, bracket, rest = (error.param or "").partition("[")
    if name not in names:
        return error
    # Places within the chat's messages are not those within the client's.
    place = names[name] if name == "messages" else names[name] + bracket + rest
    return type(error)(error.message, param=place, code=error.code)
