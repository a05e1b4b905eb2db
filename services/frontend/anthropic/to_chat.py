"""A Messages request as the chat completion that answers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from octavo.services.frontend.anthropic.schema import (
    Block,
    CountTokensRequest,
    InputMessage,
    MessagesRequest,
    RedactedThinkingBlock,
    ResultBlock,
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
)
from octavo.services.frontend.chat_bridge import chat_of, function_call, function_tool
from octavo.services.frontend.schema import ChatRequest, refuse_fields
from octavo.shared.errors import InvalidRequest

Fields = dict[str, Any]
CUSTOM = (None, "custom")
NAMES = {
    "stop": "stop_sequences",
    "thinking_token_budget": "thinking.budget_tokens",
    "response_format": "output_config.format",
    "reasoning_effort": "output_config.effort",
}
"""A chat's fields and what this API calls them."""
CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def chat_request(body: CountTokensRequest) -> ChatRequest:
    """Raises InvalidRequest that names what has no place in a chat."""
    refuse_fields(body)
    fields = {
        "model": body.model,
        "messages": _messages(body),
        "tools": [_tool(tool, i) for i, tool in enumerate(body.tools or [])] or None,
        **_choice(body.tool_choice),
        **_thinking(body),
        **_output(body),
        **_prefill(body.messages[-1]),
    }
    if isinstance(body, MessagesRequest):
        fields |= _sampling(body)
    return chat_of(fields)


def _sampling(body: MessagesRequest) -> Fields:
    return {
        "max_tokens": body.max_tokens,
        "stop": body.stop_sequences,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "stream": body.stream,
        "user": body.metadata.user_id if body.metadata else None,
    }


def _messages(body: CountTokensRequest) -> list[Fields]:
    messages: list[Fields] = []
    if body.system:
        messages.append({"role": "system", "content": _joined(body.system, "system")})
    for index, message in enumerate(body.messages):
        _add(messages, message, f"messages[{index}]")
    return messages


def _add(messages: list[Fields], message: InputMessage, place: str) -> None:
    """Turns of one side that follow each other are one turn, as Anthropic has it."""
    by_model = message.role == "assistant"
    for turn in [_assistant(message, place)] if by_model else _user(message, place):
        last = messages[-1] if messages else {}
        if turn["role"] == last.get("role") == "user":
            last["content"] += "\n" + turn["content"]
        else:
            messages.append(turn)


def _user(message: InputMessage, place: str) -> list[Fields]:
    """Results of tools are messages of their own; the text around them stays in its order."""
    turns: list[Fields] = []
    for index, block in enumerate(_blocks(message)):
        where = f"{place}.content[{index}]"
        if isinstance(block, ToolResultBlock):
            turns.append(_result(block, where))
        elif not turns or turns[-1]["role"] != message.role:
            turns.append({"role": message.role, "content": _text(block, where)})
        else:
            turns[-1]["content"] += "\n" + _text(block, where)
    return turns


def _result(block: ToolResultBlock, place: str) -> Fields:
    text = _joined(block.content or "", f"{place}.content")
    # A chat has no field for it, and the model must not take a failure for an answer.
    text = f"Error: {text}" if block.is_error else text
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": text}


def _assistant(message: InputMessage, place: str) -> Fields:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[Fields] = []
    for index, block in enumerate(_blocks(message)):
        match block:
            case ThinkingBlock():
                thoughts.append(block.thinking)
            case RedactedThinkingBlock():
                pass  # unreadable by anyone but its author
            case ToolUseBlock():
                arguments = msgspec.json.encode(block.input).decode()
                calls.append(function_call(block.id, block.name, arguments))
            case _:
                texts.append(_text(block, f"{place}.content[{index}]"))
    turn = {"role": "assistant", "content": "\n".join(texts)}
    turn |= {"reasoning": "\n".join(thoughts)} if thoughts else {}
    return turn | ({"tool_calls": calls} if calls else {})


def _blocks(message: InputMessage) -> Sequence[Block]:
    if isinstance(message.content, str):
        return [TextBlock(text=message.content)]
    return message.content


def _joined(content: str | Sequence[ResultBlock], place: str) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(_text(block, f"{place}[{i}]") for i, block in enumerate(content))


def _text(block: Block, place: str) -> str:
    if isinstance(block, TextBlock):
        return block.text
    kind = type(block).__struct_config__.tag
    raise InvalidRequest(f"Content blocks of type {kind} are not supported here.", param=place)


def _tool(tool: Tool, index: int) -> Fields:
    if tool.type not in CUSTOM or tool.input_schema is None:
        raise InvalidRequest(
            "Only tools of the client's own, with an input_schema, are supported.",
            param=f"tools[{index}]",
        )
    return function_tool(tool.name, tool.description, tool.input_schema, tool.strict)


def _choice(choice: ToolChoice | None) -> Fields:
    if choice is None:
        return {}
    if choice.type == "tool":
        if choice.name is None:
            raise InvalidRequest("A tool_choice of type tool needs a name.", param="tool_choice")
        asked: Any = {"type": "function", "function": {"name": choice.name}}
    else:
        asked = CHOICES[choice.type]
    parallel = False if choice.disable_parallel_tool_use else None
    return {"tool_choice": asked, "parallel_tool_calls": parallel}


def _thinking(body: CountTokensRequest) -> Fields:
    if body.thinking is None:
        return {}
    thinks = body.thinking.type != "disabled"
    return {
        "chat_template_kwargs": {"enable_thinking": thinks},
        "thinking_token_budget": body.thinking.budget_tokens if thinks else None,
    }


def _output(body: CountTokensRequest) -> Fields:
    config = body.output_config
    if config is None:
        return {}
    fields: Fields = {"reasoning_effort": config.effort}
    if config.format is not None:
        wanted = {"name": "output", "schema": config.format.schema}
        fields["response_format"] = {"type": "json_schema", "json_schema": wanted}
    return fields


def _prefill(last: InputMessage) -> Fields:
    """An assistant's turn at the end is continued."""
    if last.role != "assistant":
        return {}
    if any(isinstance(block, ToolUseBlock) for block in _blocks(last)):
        raise InvalidRequest("The last message's tool_use has no tool_result.", param="messages")
    return {"continue_final_message": True, "add_generation_prompt": False}
