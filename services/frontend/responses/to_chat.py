"""A Responses request as the chat completion that answers it."""

from __future__ import annotations

from typing import Any

from octavo.services.frontend.chat_bridge import chat_of, function_call, function_tool
from octavo.services.frontend.responses.schema import (
    Function,
    FunctionChoice,
    Item,
    Part,
    ResponsesRequest,
    TextFormat,
)
from octavo.services.frontend.schema import ChatRequest, refuse_fields
from octavo.shared.errors import InvalidRequest

Fields = dict[str, Any]
LOGPROBS = "message.output_text.logprobs"
STATEFUL = ("previous_response_id", "conversation", "background")
TEXTS = ("text", "input_text", "output_text", "reasoning_text", "summary_text")
NAMES = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
}
"""A chat's fields and what this API calls them."""
NOT_BEFORE = {
    "reasoning": ("reasoning", "content", "tool_calls"),
    "content": ("content", "tool_calls"),
    "tool_calls": (),
}
"""What a turn may not hold yet where this is added."""


def chat_request(body: ResponsesRequest) -> ChatRequest:
    """Raises InvalidRequest that names what has no place in a chat."""
    for name in STATEFUL:
        if getattr(body, name):
            raise InvalidRequest(
                f"`{name}` is not supported: this server stores no responses. Send the whole "
                "conversation as input, and wait for the answer or stream it.",
                param=name,
                code="unsupported_parameter",
            )
    refuse_fields(body)
    logprobs = body.top_logprobs is not None or LOGPROBS in (body.include or [])
    return chat_of(
        {
            "model": body.model,
            "messages": _messages(body),
            "max_completion_tokens": body.max_output_tokens,
            "temperature": body.temperature,
            "top_p": body.top_p,
            "tools": [_tool(tool, i) for i, tool in enumerate(body.tools or [])] or None,
            "tool_choice": _choice(body.tool_choice),
            "parallel_tool_calls": body.parallel_tool_calls,
            "response_format": _format(body.text.format if body.text else None),
            "reasoning_effort": body.reasoning.effort if body.reasoning else None,
            "logprobs": True if logprobs else None,
            "top_logprobs": body.top_logprobs,
            "stream": body.stream,
            "user": body.user,
            "safety_identifier": body.safety_identifier,
        }
    )


def _messages(body: ResponsesRequest) -> list[Fields]:
    messages: list[Fields] = []
    if body.instructions:
        messages.append({"role": "system", "content": body.instructions})
    if isinstance(body.input, str):
        return [*messages, {"role": "user", "content": body.input}]
    for index, item in enumerate(body.input):
        _add(messages, item, f"input[{index}]")
    return messages


def _add(messages: list[Fields], item: Item, place: str) -> None:
    match item.type:
        case "message" if item.role == "assistant":
            _turn(messages, "content")["content"] = _joined(item.content, f"{place}.content")
        case "message":
            role = _given(item.role, f"{place}.role")
            text = _joined(item.content, f"{place}.content")
            messages.append({"role": role, "content": text})
        case "reasoning":
            thought = _joined(item.content or item.summary, f"{place}.content")
            _turn(messages, "reasoning")["reasoning"] = thought
        case "function_call":
            turn = _turn(messages, "tool_calls")
            turn.setdefault("tool_calls", []).append(_call(item, place))
        case "function_call_output":
            call_id = _given(item.call_id, f"{place}.call_id")
            output = _joined(item.output, f"{place}.output")
            messages.append({"role": "tool", "tool_call_id": call_id, "content": output})
        case _:
            raise InvalidRequest(_unknown(item.type), param=f"{place}.type")


def _turn(messages: list[Fields], name: str) -> Fields:
    """The assistant's turn at the end if `name` still fits there, else a new one: reasoning, text
    and calls that follow each other are one turn."""
    last = messages[-1] if messages else {}
    if last.get("role") != "assistant" or any(last.get(later) for later in NOT_BEFORE[name]):
        messages.append({"role": "assistant", "content": ""})
    return messages[-1]


def _unknown(kind: str) -> str:
    if kind == "item_reference":
        return "Items cannot be referred to: this server stores none. Send them whole."
    return (
        "Only items of type message, reasoning, function_call and function_call_output are taken."
    )


def _call(item: Item, place: str) -> Fields:
    return function_call(
        _given(item.call_id, f"{place}.call_id"),
        _given(item.name, f"{place}.name"),
        item.arguments or "{}",
    )


def _given(value: str | None, place: str) -> str:
    if value is None:
        raise InvalidRequest(f"{place} is missing.", param=place)
    return value


def _joined(content: str | list[Part] | None, place: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(_text(part, f"{place}[{i}]") for i, part in enumerate(content))


def _text(part: Part, place: str) -> str:
    if part.type in TEXTS and part.text is not None:
        return part.text
    if part.type == "refusal" and part.refusal is not None:
        return part.refusal
    raise InvalidRequest("Only parts of text are supported.", param=place)


def _tool(tool: Function, index: int) -> Fields:
    if tool.type != "function" or tool.name is None:
        raise InvalidRequest(
            "Only tools of type function, with a name, are supported.", param=f"tools[{index}]"
        )
    return function_tool(tool.name, tool.description, tool.parameters, tool.strict)


def _choice(choice: str | FunctionChoice | None) -> Any:
    if isinstance(choice, FunctionChoice):
        return {"type": "function", "function": {"name": choice.name}}
    return choice


def _format(wanted: TextFormat | None) -> Fields | None:
    if wanted is None or wanted.type != "json_schema":
        return None if wanted is None else {"type": wanted.type}
    if wanted.schema is None:
        raise InvalidRequest("text.format.schema is missing.", param="text.format.schema")
    schema = {"name": wanted.name or "output", "schema": wanted.schema, "strict": wanted.strict}
    return {"type": "json_schema", "json_schema": schema}
