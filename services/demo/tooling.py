"""Tools as the demo model sees them: a line each in the system message, calls in Hermes's form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Tool = Mapping[str, Any]
"""As the OpenAI API has them: {"type": "function", "function": {...}}."""
Call = tuple[str, dict[str, Any]]
"""(name, arguments)"""
CALL, CALL_END = "<tool_call>", "</tool_call>"


def tool(name: str, description: str, parameters: Mapping[str, str]) -> Tool:
    """`parameters`: name -> JSON type."""
    properties = {each: {"type": kind} for each, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    function = {"name": name, "description": description, "parameters": schema}
    return {"type": "function", "function": function}


def listed_tools(tools: Sequence[Tool]) -> str:
    """`<tools>` and a line for each, as the chat template writes them."""
    lines = ["<tools>"]
    for each in tools:
        function = each["function"]
        properties = function["parameters"]["properties"]
        typed = ", ".join(f"{name}: {schema['type']}" for name, schema in properties.items())
        lines.append(f"- {function['name']}({typed}): {function['description']}")
    return "\n".join([*lines, "</tools>"])


def called(calls: Sequence[Call]) -> str:
    """What the model writes to call."""
    bodies = (json.dumps({"name": name, "arguments": given}) for name, given in calls)
    return "\n".join(f"{CALL}\n{body}\n{CALL_END}" for body in bodies)


def read_calls(text: str) -> list[Call] | None:
    """The calls of an answer that is nothing else; None for any other."""
    found = []
    for part in text.split(CALL)[1:]:
        body, end, _ = part.partition(CALL_END)
        try:
            call = json.loads(body)
            found.append((call["name"], call["arguments"]))
        except (ValueError, KeyError, TypeError):
            return None
        if not end:
            return None
    return found or None
