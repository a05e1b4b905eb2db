"""CallFormat: how a model is made to write calls, as a grammar around the arguments' schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from octavo.services.frontend.parsers import tagged
from octavo.shared.grammar.json_schema import ANY_WHITESPACE, schema_text
from octavo.shared.grammar.spec import GrammarSpec, lark_string, make_spec

PARAM = "tools"
INDEX = "{index}"
MAX_CALLS = 16


@dataclass(frozen=True)
class CallFormat:
    """Text around the JSON of one call's arguments: `begin` holds {name}, and {index} for a number
    where calls are counted. `before` and `after` stand around all calls, `between` between two.

    `trigger`: the beginning of `before` or `begin` that free text cannot hold by accident.
    `single`: a message has one call.
    """

    begin: str
    end: str
    before: str = ""
    between: str = ""
    after: str = ""
    trigger: str = ""
    single: bool = False


HERMES = CallFormat(
    '<tool_call>\n{"name": "{name}", "arguments": ',
    "}\n</tool_call>",
    between="\n",
    trigger="<tool_call>",
)
LLAMA3_JSON = CallFormat('{"name": "{name}", "parameters": ', "}", between="; ")
_IN_LIST = '{"name": "{name}", "arguments": '
PLAIN = CallFormat(_IN_LIST, "}", before="[", between=", ", after="]")
MISTRAL = CallFormat(
    _IN_LIST, "}", before="[TOOL_CALLS][", between=", ", after="]", trigger="[TOOL_CALLS]"
)
GRANITE = CallFormat(
    _IN_LIST, "}", before="<|tool_call|>[", between=", ", after="]", trigger="<|tool_call|>"
)
DEEPSEEK_V3 = CallFormat(
    tagged.V3_CALL + "function" + tagged.V3_SEPARATOR + "{name}\n```json\n",
    "\n```" + tagged.V3_CALL_END,
    before=tagged.V3_CALLS,
    between="\n",
    after=tagged.V3_CALLS_END,
    trigger=tagged.V3_CALLS,
)
DEEPSEEK_V31 = CallFormat(
    tagged.V3_CALL + "{name}" + tagged.V3_SEPARATOR,
    tagged.V3_CALL_END,
    before=tagged.V3_CALLS,
    after=tagged.V3_CALLS_END,
    trigger=tagged.V3_CALLS,
)
KIMI_K2 = CallFormat(
    tagged.KIMI_CALL + "functions.{name}:{index}" + tagged.KIMI_ARGUMENTS,
    tagged.KIMI_CALL_END,
    before=tagged.KIMI_CALLS,
    after=tagged.KIMI_CALLS_END,
    trigger=tagged.KIMI_CALLS,
)
HARMONY = CallFormat(
    "<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>",
    "<|call|>",
    single=True,
)

Schemas = Sequence[tuple[str, dict[str, Any]]]
"""(name, schema of the arguments) of the tools that may be called."""


def calls_spec(
    form: CallFormat,
    tools: Schemas,
    special: Iterable[str],
    *,
    one: bool,
    optional: bool = False,
    answer: str | None = None,
) -> GrammarSpec:
    """Calls in this format: one, or up to MAX_CALLS.

    `special`: texts that are single tokens outside of text. `optional`: free text first, in which
    `form.trigger` commits to calls; needs a trigger. `answer`: a JSON schema that the output may
    fit instead. Raises InvalidRequest for a schema that cannot be enforced.
    """
    rules = [*_rules(form, tools, _quoting(special), one, optional)]
    if answer is not None:
        rules[0] += f" | %json {answer}"
    return make_spec("lark", "\n".join(rules), PARAM)


Quote = Callable[[str], str]


def _rules(
    form: CallFormat, tools: Schemas, quote: Quote, one: bool, optional: bool
) -> Iterator[str]:
    begins = [form.begin.replace("{name}", name) for name, _ in tools]
    before, one = form.before, one or form.single
    if optional:
        before = before.removeprefix(form.trigger)
        if not form.before:
            begins = [begin.removeprefix(form.trigger) for begin in begins]
    more = "" if one else f" ({quote(form.between)} call){{0,{MAX_CALLS - 1}}}"
    if optional and not form.before:
        more = "" if one else f" (opened call){{0,{MAX_CALLS - 1}}}"
    calls = f"{quote(before)} call{more} {quote(form.after)}"
    yield f"start: free | opened {calls} free" if optional else f"start: {calls}"
    if optional:
        yield from _free_text(form.trigger, quote)
    yield f"call: {' | '.join(f'call_{i}' for i in range(len(tools)))}"
    for i, (begin, (_, schema)) in enumerate(zip(begins, tools, strict=True)):
        inner = schema_text(schema, PARAM, ANY_WHITESPACE)
        yield f"call_{i}: {quote(begin)} %json {inner} {quote(form.end)}"


def _free_text(trigger: str, quote: Quote) -> Iterator[str]:
    """`free`: text to the end. `opened`: text up to and with the trigger, which as a lazy lexeme
    wins over free text as soon as it is complete."""
    yield "free: TEXT"
    yield r"TEXT: /(.|\n)*/"
    mark = quote(trigger)
    yield f"opened: TEXT {mark}" if mark == trigger else f"opened[lazy]: TEXT {mark}"


def _quoting(special: Iterable[str]) -> Quote:
    """Texts as Lark: special tokens by their names, {index} as digits, the rest as literals."""
    marks = sorted({*special, INDEX}, key=len, reverse=True)
    cut = re.compile("(" + "|".join(map(re.escape, marks)) + ")")

    def quote(text: str) -> str:
        parts = (part for part in cut.split(text) if part)
        return " ".join(_lark(part, marks) for part in parts)

    return quote


def _lark(part: str, marks: Sequence[str]) -> str:
    if part == INDEX:
        return "/[0-9]{1,3}/"
    return part if part in marks else lark_string(part)
