"""Conformance cases of tools and reasoning."""

from __future__ import annotations

import json
from typing import Any

from conformance import CHAT, COMPLETIONS, Case, Probe, not_supported
from conformance_generation import prompt_ids

ONLY = (CHAT,)
F: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
G: Any = {"type": "function", "function": {"name": "g"}}
CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
CALLS = {"reply": CALL + CALL, "tool_call_parser": "hermes", "max_model_len": 1024}
THINKS = {"reply": "<think>Hm.</think>Yes.", "reasoning_parser": "qwen3"}
TEST = "tests/frontend/test_tools.py"


async def calls(probe: Probe, **fields: Any) -> list[Any]:
    choice = (await probe.ask(**fields))["choices"][0]
    found: list[Any] = choice["message"].get("tool_calls", [])
    assert (choice["finish_reason"] == "tool_calls") == bool(found)
    return found


async def tools(probe: Probe) -> None:
    first, second = await calls(probe, tools=[F, G])
    assert json.loads(first["function"]["arguments"]) == {"a": 1}
    assert first["id"] != second["id"] and first["function"]["name"] == "f"
    assert await calls(probe) == []


async def tool_choice(probe: Probe) -> None:
    assert await calls(probe, tools=[F], tool_choice="none") == []
    assert probe.submit.sampling.grammar is None
    named = {"type": "function", "function": {"name": "f"}}
    for choice, constrained in (("auto", False), ("required", True), (named, True)):
        assert await calls(probe, tools=[F], tool_choice=choice)
        assert (probe.submit.sampling.grammar is not None) == constrained


async def parallel_tool_calls(probe: Probe) -> None:
    assert len(await calls(probe, tools=[F], parallel_tool_calls=True)) == 2
    assert len(await calls(probe, tools=[F], parallel_tool_calls=False)) == 1


async def include_reasoning(probe: Probe) -> None:
    for shown in (None, True, False):
        message = (await probe.ask(include_reasoning=shown))["choices"][0]["message"]
        assert message["content"] == "Yes."
        assert message.get("reasoning") == (None if shown is False else "Hm.")


async def thinking_token_budget(probe: Probe) -> None:
    await probe.ask(thinking_token_budget=7)
    sampling = probe.submit.sampling
    assert sampling.thinking_token_budget == 7
    end = probe.front.tokenizer.encode("</think>", add_special_tokens=False)
    assert sampling.reasoning_end_ids == end and prompt_ids(probe)


CASES = [
    Case(
        *("tools", "up to 128 functions", "given to the template; calls become `tool_calls`"),
        tools,
        [[{}], [F, F], [F] * 129, [{"function": {"name": "a b"}}], "x"],
        ONLY,
        TEST,
        CALLS,
    ),
    Case(
        *(
            "tool_choice",
            "none, auto, required, or a function by name",
            "whether calls may, or must, be made",
        ),
        tool_choice,
        [
            "x",
            {"tool_choice": "required", "tools": []},
            {"tool_choice": {"type": "function", "function": {"name": "h"}}, "tools": [F]},
        ],
        ONLY,
        TEST,
        CALLS,
    ),
    Case(
        *("parallel_tool_calls", "boolean", "false: one call at most"),
        parallel_tool_calls,
        ["x"],
        ONLY,
        TEST,
        CALLS,
    ),
    Case(
        *("include_reasoning", "boolean", "false: reasoning is left out of the answer"),
        include_reasoning,
        ["x"],
        ONLY,
        TEST,
        THINKS,
    ),
    Case(
        *("thinking_token_budget", "0 to 2³¹ - 1", "reasoning is ended after so many tokens"),
        thinking_token_budget,
        [-1, 2**31, "x"],
        ONLY,
        "tests/worker/test_constraints.py",
        THINKS,
    ),
    not_supported("thinking_token_budget", 5, (COMPLETIONS,)),
]
