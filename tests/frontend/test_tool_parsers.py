"""Recorded outputs, cut at every border, read the same."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

import pytest
from parser_outputs import RECORDED, SCHEMAS, Recorded

from octavo.services.frontend.chat_parts import ChatParts, Part, Reading
from octavo.services.frontend.parsers.registry import (
    PLAIN_PARSER,
    REASONING_PARSERS,
    TOOL_PARSERS,
    detect_reasoning,
    detect_tools,
)

NAMES = [f"{one.parser}-{i}" for i, one in enumerate(RECORDED)]
Found = tuple[str, str, list[tuple[str, str]]]


def read(reading: Reading, pieces: Iterable[str]) -> Found:
    """(content, reasoning, calls) as the parts say them, which is what the whole says too."""
    parts, pieces = ChatParts(reading), list(pieces)
    news = [parts.push(piece, i == len(pieces) - 1) for i, piece in enumerate(pieces)]
    content, reasoning = "".join(p.content for p in news), "".join(p.reasoning for p in news)
    calls = joined(news)
    assert [(call.name, call.arguments) for call in parts.calls] == calls
    return content, reasoning, calls


def joined(news: list[Part]) -> list[tuple[str, str]]:
    """As a client joins deltas."""
    found: list[list[str]] = []
    ids = []
    for part in news:
        for call in part.calls:
            if call.name is not None:
                assert call.index == len(found)
                found.append([call.name, ""])
                ids.append(call.call_id)
            found[call.index][1] += call.arguments
    assert len(set(ids)) == len(ids) and all(ids)
    return [(name, arguments) for name, arguments in found]


def reading_of(recorded: Recorded) -> Reading:
    return Reading(TOOL_PARSERS[recorded.parser], types=SCHEMAS)


@pytest.mark.parametrize("recorded", RECORDED, ids=NAMES)
def test_a_recorded_output_is_read(recorded: Recorded) -> None:
    content, reasoning, calls = read(reading_of(recorded), [recorded.text])
    assert [(name, json.loads(arguments)) for name, arguments in calls] == recorded.calls
    assert (content, reasoning) == (recorded.content, "")


@pytest.mark.parametrize("recorded", RECORDED, ids=NAMES)
def test_where_it_is_cut_does_not_matter(recorded: Recorded) -> None:
    text, reading = recorded.text, reading_of(recorded)
    whole = read(reading, [text])
    for border in range(len(text) + 1):
        assert read(reading, [text[:border], text[border:]]) == whole
    assert read(reading, [*text, ""]) == whole


@pytest.mark.parametrize("recorded", RECORDED, ids=NAMES)
def test_an_output_that_ends_early_loses_nothing_and_raises_nothing(recorded: Recorded) -> None:
    """What came of the calls before the end is what a longer output begins with."""
    reading = reading_of(recorded)
    calls = read(reading, [recorded.text])[2]
    for length in range(len(recorded.text)):
        beginning = recorded.text[:length]
        if recorded.parser == "openai" and beginning.rfind("<") > beginning.rfind("|>"):
            continue  # its marks are tokens, never cut
        content, _, cut = read(reading, [beginning])
        assert len(cut) <= max(len(calls), 1)
        for (name, arguments), (whole_name, whole) in zip(cut, calls, strict=False):
            assert whole_name.startswith(name) and whole.startswith(arguments.removesuffix("}"))
        if not cut and not calls:
            assert recorded.content.startswith(content.rstrip())


@pytest.mark.parametrize("name", sorted(TOOL_PARSERS))
@pytest.mark.parametrize(
    "noise",
    ["<", "{", "[", '{"', '{"a":', "<tool_call>", "<tool_call>{", "[TOOL_CALLS][{", "f(", "\\",
     "<function=", "<function=f>", "<arg_key>", "<|channel|>", '"', "<tool_call>[", " ",
     "<function=f><parameter=x>", "[f(x=[", "<|tool_calls_section_begin|><|tool_call_begin|>"],
)  # fmt: skip
def test_time_is_linear_in_hostile_text(name: str, noise: str) -> None:
    text = noise * (200_000 // len(noise))
    began = time.process_time()
    read(Reading(TOOL_PARSERS[name], types=SCHEMAS), [text])
    read(Reading(TOOL_PARSERS[name], types=SCHEMAS), (text[i : i + 8] for i in range(0, 50_000, 8)))
    assert time.process_time() - began < 5


@pytest.mark.parametrize("name", sorted(REASONING_PARSERS))
def test_time_is_linear_in_hostile_reasoning(name: str) -> None:
    """Blanks that are kept until it is known what they are, and what might become a mark."""
    parser = REASONING_PARSERS[name]
    tools = TOOL_PARSERS["openai" if name == "openai_gptoss" else "hermes"]
    marks = (parser.begin[0], parser.end[0], parser.end[0][:-1], parser.end[0][:1])
    for inside, noise in [(None, " "), *((True, mark) for mark in (" ", *marks))]:
        text = noise * (200_000 // len(noise))
        began = time.process_time()
        read(Reading(tools, parser, inside), [text])
        read(Reading(tools, parser, inside), (text[i : i + 8] for i in range(0, 50_000, 8)))
        assert time.process_time() - began < 5, noise


def test_only_the_first_call_where_calls_may_not_be_parallel() -> None:
    recorded = RECORDED[1]
    reading = Reading(TOOL_PARSERS["hermes"], types=SCHEMAS, one_call=True)
    assert [name for name, _ in read(reading, recorded.text)[2]] == ["weather"]


def test_ids_in_the_form_that_templates_want() -> None:
    kimi = ChatParts(Reading(TOOL_PARSERS["kimi_k2"]))
    kimi.push(next(one.text for one in RECORDED if one.parser == "kimi_k2"), True)
    assert [call.call_id for call in kimi.calls] == ["functions.weather:0", "functions.write:1"]
    mistral = ChatParts(Reading(TOOL_PARSERS["mistral"]))
    mistral.push("[TOOL_CALLS]f[ARGS]{}", True)
    call_id = mistral.calls[0].call_id
    assert call_id is not None and len(call_id) == 9 and call_id.isalnum()


def test_the_plain_form() -> None:
    text = '[{"name": "weather", "arguments": {"city": "Rome"}}, {"name": "now", "arguments": {}}]'
    for pieces in ([text], list(text)):
        _, _, calls = read(Reading(PLAIN_PARSER), pieces)
        assert calls == [("weather", '{"city": "Rome"}'), ("now", "{}")]


@pytest.mark.parametrize(
    ("template", "tools", "reasoning"),
    [
        ("... <tool_call>\n{name} ... <think>", "hermes", "qwen3"),
        ("[TOOL_CALLS] [THINK]", "mistral", "mistral"),
        ("<｜tool▁calls▁begin｜>...```json", "deepseek_v3", None),
        ("<｜tool▁calls▁begin｜> <think>", "deepseek_v31", "qwen3"),
        ("<tool_call>\n<function=example>", "qwen3_coder", None),
        ("<tool_call>{n}\n<arg_key> <think>", "glm45", "qwen3"),
        ("<|channel|>", "openai", "openai_gptoss"),
        ("just {{ messages }}", None, None),
    ],
)
def test_templates_tell_their_formats(
    template: str, tools: str | None, reasoning: str | None
) -> None:
    assert (detect_tools(template), detect_reasoning(template)) == (tools, reasoning)
