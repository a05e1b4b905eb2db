"""Names of parsers, and which one a chat template speaks of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from octavo.services.frontend.parsers import harmony, marked, pythonic, reasoning, tagged
from octavo.services.frontend.parsers.call_format import (
    DEEPSEEK_V3,
    DEEPSEEK_V31,
    GRANITE,
    HARMONY,
    HERMES,
    KIMI_K2,
    LLAMA3_JSON,
    MISTRAL,
    PLAIN,
    CallFormat,
)
from octavo.services.frontend.parsers.events import Output
from octavo.services.frontend.parsers.marked import Types
from octavo.services.frontend.parsers.reader import Reader, Steps
from octavo.services.frontend.parsers.reasoning import Reasoning

Read: TypeAlias = Callable[[Reader, Output, Types], Steps[None]]


@dataclass(frozen=True)
class ToolParser:
    """`read` takes calls out of a text. `calls`: how a grammar makes a model write them, for
    `read` or, where `own` is false, for `PLAIN_PARSER` to read back."""

    read: Read
    calls: CallFormat = PLAIN
    own: bool = False
    marks: tuple[str, ...] = ()
    """Tokens of the format; where they are special ones, `read` must see them all the same."""
    reasons: bool = False
    """Whether the format has reasoning of its own."""
    short_ids: bool = False
    """Mistral's templates take ids of nine letters and digits only."""


def _untyped(read: Callable[[Reader, Output], Steps[None]]) -> Read:
    return lambda reader, out, types: read(reader, out)


def _own(
    read: Callable[[Reader, Output], Steps[None]], calls: CallFormat, *marks: str
) -> ToolParser:
    return ToolParser(_untyped(read), calls, own=True, marks=marks)


_TOOL_CALL = ("<tool_call>", "</tool_call>")
PLAIN_PARSER = ToolParser(_untyped(tagged.plain), PLAIN, own=True)
_HERMES = _own(tagged.hermes, HERMES, *_TOOL_CALL)
_CODER = ToolParser(marked.qwen3_coder, marks=_TOOL_CALL)
HARMONY_PARSER = ToolParser(
    _untyped(harmony.harmony), HARMONY, own=True, marks=harmony.MARKS, reasons=True
)
TOOL_PARSERS: Mapping[str, ToolParser] = {
    "hermes": _HERMES,
    "qwen3": _HERMES,
    "qwen3_coder": _CODER,
    "qwen3_xml": _CODER,
    "llama3_json": _own(tagged.llama3_json, LLAMA3_JSON, "<|python_tag|>"),
    "pythonic": ToolParser(
        _untyped(pythonic.pythonic), marks=("<|python_start|>", "<|python_end|>", "<|python_tag|>")
    ),
    "mistral": ToolParser(
        _untyped(tagged.mistral),
        MISTRAL,
        own=True,
        marks=("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"),
        short_ids=True,
    ),
    "granite": _own(tagged.granite, GRANITE, "<|tool_call|>", *_TOOL_CALL),
    "deepseek_v3": _own(tagged.deepseek_v3, DEEPSEEK_V3, *tagged.V3_MARKS),
    "deepseek_v31": _own(tagged.deepseek_v31, DEEPSEEK_V31, *tagged.V3_MARKS),
    "kimi_k2": _own(tagged.kimi_k2, KIMI_K2, *tagged.KIMI_MARKS),
    "glm45": ToolParser(marked.glm45, marks=(*_TOOL_CALL, *marked.GLM_MARKS)),
    "openai": HARMONY_PARSER,
    "harmony": HARMONY_PARSER,
}
REASONING_PARSERS: Mapping[str, Reasoning] = {
    "deepseek_r1": reasoning.DEEPSEEK_R1,
    "qwen3": reasoning.THINK,
    "glm45": reasoning.THINK,
    "mistral": reasoning.MISTRAL,
    "granite": reasoning.GRANITE,
    "openai_gptoss": reasoning.HARMONY,
}

TOOL_MARKS = (
    ("<|tool_call_argument_begin|>", "kimi_k2"),
    ("<|channel|>", "openai"),
    ("[TOOL_CALLS]", "mistral"),
    ("<arg_key>", "glm45"),
    ("<function=", "qwen3_coder"),
    ("<|tool_call|>", "granite"),
    ("<tool_call>", "hermes"),
    ("<|python_tag|>", "llama3_json"),
    ("<|python_start|>", "pythonic"),
)
"""What a chat template holds -> the parser of that format; the first that fits."""
REASONING_MARKS = (
    ("<|channel|>", "openai_gptoss"),
    ("[THINK]", "mistral"),
    ("<think>", "qwen3"),
    ("</think>", "qwen3"),
    ("Here is my thought process", "granite"),
)


def detect_tools(template: str) -> str | None:
    """The name of the parser for the calls that a chat template writes."""
    if tagged.V3_CALLS in template:
        return "deepseek_v3" if "```json" in template else "deepseek_v31"
    return next((name for mark, name in TOOL_MARKS if mark in template), None)


def detect_reasoning(template: str) -> str | None:
    return next((name for mark, name in REASONING_MARKS if mark in template), None)


@dataclass(frozen=True)
class Parsers:
    """Those of one model."""

    tools: ToolParser | None = None
    reasoning: Reasoning | None = None

    @classmethod
    def of(cls, tools: str, reasoning: str, template: str) -> Parsers:
        """By name, `auto` or `none`. An unknown name is none: settings check names."""
        tool_name = detect_tools(template) if tools == "auto" else tools
        reasoning_name = detect_reasoning(template) if reasoning == "auto" else reasoning
        return cls(
            TOOL_PARSERS.get(tool_name or "none"), REASONING_PARSERS.get(reasoning_name or "none")
        )
