"""`octavo.llm` over real processes and the demo model gives what the server gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from octavo_server import Server

from octavo.llm import LLM, SamplingParams, StructuredOutputsParams
from octavo.shared.errors import InvalidRequest

CHAT: list[Any] = [{"role": "user", "content": "Tell me a short story."}]


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(device="cpu") as running:
        yield running


def test_seeded_ids_are_the_server_s(llm: LLM, server: Server) -> None:
    params = SamplingParams(temperature=1.2, top_p=0.95, seed=11, max_tokens=60)
    [ours] = llm.chat(CHAT, params, use_tqdm=False)
    body = {"model": "demo", "messages": CHAT, "return_token_ids": True}
    wanted = {"temperature": 1.2, "top_p": 0.95, "seed": 11, "max_tokens": 60}
    theirs = server.post("/v1/chat/completions", {**body, **wanted})["choices"][0]
    assert ours.outputs[0].token_ids == theirs["token_ids"]
    assert ours.outputs[0].text == theirs["message"]["content"]
    assert ours.outputs[0].finish_reason == theirs["finish_reason"]


def test_a_batch_is_answered_in_order(llm: LLM) -> None:
    sums = [(a, 3 * a + 1) for a in range(2, 30)]
    asked: list[Any] = [[{"role": "user", "content": f"What is {a} + {b}?"}] for a, b in sums]
    outputs = llm.chat(asked, SamplingParams(temperature=0, max_tokens=30), use_tqdm=False)
    right = [str(a + b) in out.outputs[0].text for (a, b), out in zip(sums, outputs, strict=True)]
    assert sum(right) >= len(sums) - 1


def test_prompt_logprobs_cover_the_prompt(llm: LLM) -> None:
    [output] = llm.generate(
        ["Paris is the capital"], SamplingParams(max_tokens=1, prompt_logprobs=1), use_tqdm=False
    )
    assert output.prompt_token_ids is not None and output.prompt_logprobs is not None
    assert len(output.prompt_logprobs) == len(output.prompt_token_ids)
    assert output.prompt_logprobs[0] is None
    assert all(entry for entry in output.prompt_logprobs[1:])


def test_structured_outputs_fit_their_schema(llm: LLM) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 9}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    asked = [StructuredOutputsParams(json=schema), StructuredOutputsParams(choice=["yes", "no"])]
    params = [SamplingParams(max_tokens=200, seed=1, structured_outputs=one) for one in asked]
    person, choice = llm.generate(["Somebody: ", "Is it? "], params, use_tqdm=False)
    assert json.loads(person.outputs[0].text).keys() == {"name", "age"}
    assert choice.outputs[0].text in ("yes", "no")


def test_a_grammar_that_is_wrong_is_refused(llm: LLM) -> None:
    wrong = SamplingParams(structured_outputs=StructuredOutputsParams(regex="("))
    with pytest.raises(InvalidRequest, match="structured_outputs"):
        llm.generate("x", wrong)
