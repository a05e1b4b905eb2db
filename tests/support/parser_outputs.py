"""Outputs as models write them, with what must be read in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Calls = list[tuple[str, Any]]
PARIS: Any = {"city": "Paris", "days": 3}
CODE: Any = {"path": "a.py", "text": 'def f():\n    return "{[\\"]}" # é 你好 😀'}
NESTED: Any = {
    "filter": {"and": [{"a": [1, 2.5e3, None]}, {"b": {"c": True}}]},
    "q": "</tool_call>",
}
SCHEMAS: dict[str, Any] = {
    "weather": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    },
    "write": {
        "type": "object",
        "properties": {"path": {"type": "string"}, "text": {"type": "string"}},
    },
    "search": {"type": "object"},
    "now": {"type": "object", "properties": {}},
}


@dataclass(frozen=True)
class Recorded:
    parser: str
    text: str
    calls: Calls
    content: str = ""


def _text(parser: str, text: str) -> Recorded:
    return Recorded(parser, text, [], text)


def _v3(name: str, arguments: str) -> str:
    return (
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```"
        "<｜tool▁call▁end｜>"
    )


def _v31(name: str, arguments: str) -> str:
    return f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>"


def _section(*calls: str) -> str:
    return "<｜tool▁calls▁begin｜>" + "\n".join(calls) + "<｜tool▁calls▁end｜>"


def _kimi(call_id: str, arguments: str) -> str:
    return f"<|tool_call_begin|>{call_id}<|tool_call_argument_begin|>{arguments}<|tool_call_end|>"


P = '{"city": "Paris", "days": 3}'
C = '{"path": "a.py", "text": "def f():\\n    return \\"{[\\\\\\"]}\\" # \\u00e9 你好 😀"}'
N = '{"filter": {"and": [{"a": [1, 2.5e3, null]}, {"b": {"c": true}}]}, "q": "</tool_call>"}'
ONE: Calls = [("weather", PARIS)]
TWO: Calls = [("weather", PARIS), ("write", CODE)]
HARD: Calls = [("search", NESTED), ("now", {})]

RECORDED = [
    Recorded("hermes", f'<tool_call>\n{{"name": "weather", "arguments": {P}}}\n</tool_call>', ONE),
    Recorded(
        "hermes",
        f'Let me look.\n\n<tool_call>\n{{"name": "weather", "arguments": {P}}}\n</tool_call>\n'
        f'<tool_call>\n{{"arguments": {C}, "name": "write"}}\n</tool_call>\n',
        TWO,
        "Let me look.",
    ),
    Recorded(
        "hermes",
        f'<tool_call>{{"name":"search","arguments":{N}}}</tool_call>'
        '<tool_call>{"name": "now"}</tool_call> Done.',
        HARD,
        "Done.",
    ),
    _text("hermes", "No call: a < b, <tool, <tool_cal."),
    _text("hermes", "<tool_call>\nnot json</tool_call>"),
    _text("hermes", '<tool_call>{"nam": "x"}'),
    Recorded("llama3_json", f'{{"name": "weather", "parameters": {P}}}', ONE),
    Recorded(
        "llama3_json",
        f'<|python_tag|>{{"name": "weather", "parameters": {P}}}; '
        f'{{"name": "write", "parameters": {C}}}',
        TWO,
    ),
    Recorded("llama3_json", ' {"name": "Bob", "age": 3}', [], ' {"name": "Bob", "age": 3}'),
    Recorded("llama3_json", "Plain {text}", [], "Plain {text}"),
    Recorded("pythonic", "[weather(city='Paris', days=3)]", ONE),
    Recorded(
        "pythonic",
        "[weather(city=\"Paris\", days=3), write(path='a.py', "
        "text='def f():\\n    return \"{[\\\\\"]}\" # \\u00e9 你好 😀')]",
        TWO,
    ),
    Recorded(
        "pythonic",
        "[search(filter={'and': [{'a': [1, 2.5e3, None]}, {'b': {'c': True}}]}, "
        'q="</tool_call>"), now()]',
        HARD,
    ),
    Recorded("pythonic", "[1, 2] is a list", [], "[1, 2] is a list"),
    Recorded("mistral", f'[TOOL_CALLS] [{{"name": "weather", "arguments": {P}}}]', ONE),
    Recorded(
        "mistral",
        f'Yes.[TOOL_CALLS][{{"name": "weather", "arguments": {P}}}, '
        f'{{"name": "write", "arguments": {C}}}]',
        TWO,
        "Yes.",
    ),
    Recorded("mistral", f"[TOOL_CALLS]weather[ARGS]{P}[TOOL_CALLS]write[ARGS]{C}", TWO),
    Recorded("mistral", f"[TOOL_CALLS]search{N}[TOOL_CALLS]now[CALL_ID]abcdefghi[ARGS]{{}}", HARD),
    Recorded("mistral", "[TOOL_CALLS] nothing here", [], "[TOOL_CALLS] nothing here"),
    Recorded(
        "qwen3_coder",
        "I will.\n<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n"
        "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
        ONE,
        "I will.",
    ),
    Recorded(
        "qwen3_xml",
        "<function=search>\n<parameter=filter>\n"
        '{"and": [{"a": [1, 2.5e3, null]}, {"b": {"c": true}}]}\n</parameter>\n'
        "<parameter=q>\n</tool_call>\n</parameter>\n</function>\n"
        "<tool_call>\n<function=now>\n</function>\n</tool_call>",
        HARD,
    ),
    Recorded(
        "qwen3_coder",
        "<tool_call>\n<function=write>\n<parameter=path>\na.py\n</parameter>\n<parameter=text>\n"
        'def f():\n    return "{[\\"]}" # é 你好 😀\n</parameter>\n</function>\n</tool_call>',
        [("write", CODE)],
    ),
    Recorded("qwen3_coder", "<tool_call> <b>bold</b>", [], "<tool_call> <b>bold</b>"),
    Recorded("deepseek_v3", _section(_v3("weather", P)), ONE),
    Recorded(
        "deepseek_v3", "Sure." + _section(_v3("weather", P), _v3("write", C)), TWO, "Sure."
    ),
    Recorded("deepseek_v3", _section(_v3("search", N), _v3("now", "{}")), HARD),
    Recorded("deepseek_v31", _section(_v31("weather", P), _v31("write", C)), TWO),
    Recorded("deepseek_v31", _section(_v31("search", N), _v31("now", "{}")), HARD),
    Recorded("deepseek_v31", "Only text.", [], "Only text."),
    Recorded(
        "openai",
        "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>" + P + "<|call|>",
        ONE,
    ),
    Recorded(
        "openai",
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=functions.weather"
        f"<|channel|>commentary json<|message|>{P}<|call|><|start|>assistant<|channel|>commentary"
        f" to=functions.write<|message|>{C}",
        TWO,
        "I look.",
    ),
    Recorded("openai", "<|channel|>final<|message|>Hi there.<|return|>", [], "Hi there."),
    Recorded("openai", "No channels at all.", [], "No channels at all."),
    Recorded(
        "glm45",
        "Wait.\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
        ONE,
        "Wait.",
    ),
    Recorded(
        "glm45",
        "<tool_call>search\n<arg_key>filter</arg_key>\n<arg_value>"
        '{"and": [{"a": [1, 2.5e3, null]}, {"b": {"c": true}}]}</arg_value>\n'
        "<arg_key>q</arg_key>\n<arg_value></tool_call></arg_value>\n</tool_call>\n"
        "<tool_call>now</tool_call>",
        HARD,
    ),
    Recorded("glm45", "<tool_call>what is this?", [], "<tool_call>what is this?"),
    Recorded(
        "kimi_k2",
        "<|tool_calls_section_begin|>" + _kimi("functions.weather:0", P)
        + _kimi("functions.write:1", C) + "<|tool_calls_section_end|>",
        TWO,
    ),
    Recorded(
        "kimi_k2",
        "Ok.<|tool_calls_section_begin|>" + _kimi("functions.search:0", N)
        + _kimi("functions.now:1", "{}") + "<|tool_calls_section_end|>",
        HARD,
        "Ok.",
    ),
    Recorded("granite", f'<|tool_call|>[{{"name": "weather", "arguments": {P}}}]', ONE),
    Recorded(
        "granite",
        f'<tool_call>[{{"name": "search", "arguments": {N}}}, {{"name": "now"}}]',
        HARD,
    ),
    Recorded("granite", "<|tool_call|>[]", [], "<|tool_call|>[]"),
]  # fmt: skip
