"""The OpenAI SDK for Python: chat, tools, JSON schema, embeddings and responses."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from octavo_server import Server
from sdk_tasks import ASKED, QUESTION, SCHEMA, TOOL_NAME, TOOL_TEXT, Verdict, is_verdict

pytestmark = [
    pytest.mark.slow,
    # A socket of the SDK's that it leaves to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
FUNCTION = {"name": TOOL_NAME, "description": TOOL_TEXT, "parameters": SCHEMA}
CHAT_TOOL: Any = {"type": "function", "function": FUNCTION}
RESPONSES_TOOL: Any = {"type": "function", **FUNCTION, "strict": True}
MODEL = "demo"


def test_chat_and_its_stream(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=ASKED, temperature=0)
    with client.chat.completions.stream(model=MODEL, messages=ASKED, temperature=0) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        streamed = stream.get_final_completion()
    assert text == streamed.choices[0].message.content == whole.choices[0].message.content
    assert "85" in text


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": TOOL_NAME}}]
)
def test_chat_with_tools(client: openai.OpenAI, choice: Any) -> None:
    common: dict[str, Any] = {"model": MODEL, "messages": ASKED, "temperature": 0}
    answer = client.chat.completions.create(
        **common, tools=[CHAT_TOOL], tool_choice=choice, parallel_tool_calls=False
    )
    [call] = answer.choices[0].message.tool_calls or []
    assert call.type == "function" and call.function.name == TOOL_NAME
    assert is_verdict(json.loads(call.function.arguments))
    result = {"role": "tool", "tool_call_id": call.id, "content": "Right."}
    turns: list[Any] = [*ASKED, answer.choices[0].message.to_dict(), result]
    after = client.chat.completions.create(model=MODEL, messages=turns, max_tokens=20)
    assert after.choices[0].finish_reason in ("stop", "length")


def test_chat_streams_tool_calls(client: openai.OpenAI) -> None:
    common: dict[str, Any] = {"model": MODEL, "messages": ASKED, "tools": [CHAT_TOOL]}
    with client.chat.completions.stream(**common, tool_choice="required") as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_completion().choices[0].message
    assert "tool_calls.function.arguments.delta" in kinds
    for call in message.tool_calls or []:
        assert is_verdict(json.loads(call.function.arguments))
    assert message.tool_calls


def test_chat_with_a_json_schema(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(model=MODEL, messages=ASKED, response_format=Verdict)
    assert isinstance(answer.choices[0].message.parsed, Verdict)


@pytest.mark.parametrize("form", ["base64", "float"])
def test_embeddings(embedder: Server, form: Any) -> None:
    texts = ["The sun is a star.", "A cat sleeps."]
    with openai.OpenAI(base_url=f"{embedder.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.embeddings.create(model=MODEL, input=texts, encoding_format=form)
    vectors = [one.embedding for one in answer.data]
    if form == "float":
        assert all(sum(x * x for x in vector) == pytest.approx(1, abs=1e-3) for vector in vectors)
    assert len(vectors) == 2 and len(vectors[0]) == len(vectors[1])
    assert answer.usage.prompt_tokens > 0


def test_responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(
        model=MODEL, input=QUESTION, instructions="Answer in short.", temperature=0
    )
    assert answer.status == "completed" and answer.output_text
    assert answer.usage is not None and answer.usage.output_tokens > 0
    items = [item.to_dict() for item in answer.output]
    again: Any = [{"role": "user", "content": QUESTION}, *items, *ASKED]
    assert client.responses.create(model=MODEL, input=again, max_output_tokens=20).output


def test_responses_stream(client: openai.OpenAI) -> None:
    common: dict[str, Any] = {"model": MODEL, "input": QUESTION, "temperature": 0}
    with client.responses.stream(**common) as stream:
        events = list(stream)
        final = stream.get_final_response()
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == final.output_text == client.responses.create(**common).output_text
    assert [events[0].type, events[-1].type] == ["response.created", "response.completed"]


def test_responses_with_tools(client: openai.OpenAI) -> None:
    common: dict[str, Any] = {"model": MODEL, "tools": [RESPONSES_TOOL], "temperature": 0}
    asked: list[Any] = [{"role": "user", "content": QUESTION}]
    answer = client.responses.create(
        **common, input=asked, tool_choice="required", parallel_tool_calls=False
    )
    calls = [item for item in answer.output if item.type == "function_call"]
    assert [call.name for call in calls] == [TOOL_NAME]
    assert is_verdict(json.loads(calls[0].arguments))
    asked += [item.to_dict() for item in answer.output]
    asked += [
        {"type": "function_call_output", "call_id": call.call_id, "output": "Right."}
        for call in calls
    ]
    after = client.responses.create(**common, input=asked, tool_choice="none", max_output_tokens=20)
    assert after.output[-1].type == "message"


def test_responses_stream_tool_calls(client: openai.OpenAI) -> None:
    with client.responses.stream(
        model=MODEL, input=QUESTION, tools=[RESPONSES_TOOL], tool_choice="required"
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert "response.function_call_arguments.delta" in kinds
    calls = [item for item in final.output if item.type == "function_call"]
    assert calls and all(is_verdict(json.loads(call.arguments)) for call in calls)


def test_responses_with_a_json_schema(client: openai.OpenAI) -> None:
    answer = client.responses.parse(model=MODEL, input=QUESTION, text_format=Verdict)
    assert isinstance(answer.output_parsed, Verdict)


def test_what_needs_a_store_says_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="stores no responses"):
        client.responses.create(model=MODEL, input="x", previous_response_id="resp_1")
    with pytest.raises(openai.NotFoundError, match="stores no responses"):
        client.responses.retrieve("resp_1")
