"""Tools of a chat request: what is offered to the model, and what it must make of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from octavo.services.frontend.bounds import MAX_TOOLS, JsonObject, Text
from octavo.services.frontend.parsers.call_format import Schemas
from octavo.shared.errors import InvalidRequest

ToolName: TypeAlias = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}(?![\s\S])", max_length=64)
]


class Function(msgspec.Struct, kw_only=True, omit_defaults=True):
    name: ToolName
    description: Text | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, kw_only=True):
    type: Literal["function"] = "function"
    function: Function


class NamedFunction(msgspec.Struct, kw_only=True):
    name: ToolName


class NamedTool(msgspec.Struct, kw_only=True):
    type: Literal["function"] = "function"
    function: NamedFunction


Tools: TypeAlias = Annotated[list[Tool], Meta(max_length=MAX_TOOLS)]
ToolChoice: TypeAlias = Literal["none", "auto", "required"] | NamedTool
ANY_ARGUMENTS: dict[str, Any] = {"type": "object"}
NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


@dataclass(frozen=True)
class ToolUse:
    """`callable`: the tools that the answer may call; none: it may call nothing. `forced`: it
    must. `one_call`: at most once."""

    callable: list[Tool] = field(default_factory=list)
    forced: bool = False
    one_call: bool = False
    offered: list[Tool] = field(default_factory=list)
    """Those that the template is given."""

    def for_template(self) -> list[Any] | None:
        """As chat templates know tools: `strict` is not the model's affair."""
        tools = [
            msgspec.structs.replace(
                tool, function=msgspec.structs.replace(tool.function, strict=None)
            )
            for tool in self.offered
        ]
        return [msgspec.to_builtins(tool) for tool in tools] or None

    @property
    def types(self) -> dict[str, dict[str, Any]]:
        """The parameters' schemas by name."""
        return {tool.function.name: tool.function.parameters or {} for tool in self.callable}

    @property
    def strict(self) -> bool:
        return any(tool.function.strict for tool in self.callable)

    def schemas(self) -> Schemas:
        """What arguments must fit. Where calls are forced all schemas hold, else strict ones."""
        return [(tool.function.name, _schema(tool.function, self.forced)) for tool in self.callable]


def _schema(function: Function, forced: bool) -> dict[str, Any]:
    if not (forced or function.strict):
        return ANY_ARGUMENTS
    parameters = function.parameters
    if parameters is None:
        return NO_ARGUMENTS
    return parameters if parameters.get("type") else ANY_ARGUMENTS | parameters


def tool_use(tools: list[Tool] | None, choice: ToolChoice | None, parallel: bool | None) -> ToolUse:
    """Raises InvalidRequest for a choice that the tools do not allow."""
    if not tools:
        if choice not in (None, "none", "auto"):
            raise InvalidRequest("tool_choice needs tools.", param="tool_choice")
        return ToolUse()
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        raise InvalidRequest("tools: two of them have the same name.", param="tools")
    one_call = parallel is False
    if choice == "none":
        return ToolUse()
    if isinstance(choice, NamedTool):
        named = [tool for tool in tools if tool.function.name == choice.function.name]
        if not named:
            raise InvalidRequest(
                f"tool_choice: there is no tool {choice.function.name}.", param="tool_choice"
            )
        return ToolUse(named, forced=True, one_call=True, offered=tools)
    return ToolUse(tools, forced=choice == "required", one_call=one_call, offered=tools)
