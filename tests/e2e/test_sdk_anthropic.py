"""The Anthropic SDK: messages, streams, tools, counted tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from octavo_server import Server
from sdk_tasks import ASKED, SCHEMA, TOOL_NAME, TOOL_TEXT, is_verdict

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
anthropic = pytest.importorskip("anthropic")
TOOL = {"name": TOOL_NAME, "description": TOOL_TEXT, "input_schema": SCHEMA}
COMMON: dict[str, Any] = {
    "model": "demo",
    "messages": ASKED,
    "max_tokens": 200,
    "extra_body": {"temperature": 0},  # newer versions of the SDK do not know it
}


@pytest.fixture
def claude(server: Server) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as sdk:
        yield sdk


def test_messages(claude: Any) -> None:
    answer = claude.messages.create(**COMMON, system="Answer in short.")
    assert [block.type for block in answer.content] == ["text"]
    assert answer.stop_reason in ("end_turn", "max_tokens")
    assert answer.usage.output_tokens > 0


def test_a_stream_adds_up(claude: Any) -> None:
    with claude.messages.stream(**COMMON) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    whole = claude.messages.create(**COMMON)
    assert "85" in text and text == final.content[0].text == whole.content[0].text
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.stop_reason == whole.stop_reason == "end_turn"


def test_stop_sequences(claude: Any) -> None:
    answer = claude.messages.create(**COMMON, stop_sequences=["5", "85"])
    assert answer.stop_reason == "stop_sequence" and answer.stop_sequence in ("5", "85")


def test_counted_tokens(claude: Any) -> None:
    counted = claude.messages.count_tokens(model="demo", messages=ASKED)
    usage = claude.messages.create(**COMMON).usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": TOOL_NAME}])
def test_tools(claude: Any, choice: dict[str, Any]) -> None:
    choice = choice | {"disable_parallel_tool_use": True}
    answer = claude.messages.create(**COMMON, tools=[TOOL], tool_choice=choice)
    assert answer.stop_reason == "tool_use"
    [use] = [block for block in answer.content if block.type == "tool_use"]
    assert use.name == TOOL_NAME and is_verdict(use.input)
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "Right."}
    turns = [*ASKED, answer.to_param(), {"role": "user", "content": [result]}]
    after = claude.messages.create(**(COMMON | {"messages": turns}))
    assert after.content and after.content[0].type == "text"


def test_streamed_tools(claude: Any) -> None:
    choice = {"type": "any", "disable_parallel_tool_use": True}
    with claude.messages.stream(**COMMON, tools=[TOOL], tool_choice=choice) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    uses = [block for block in final.content if block.type == "tool_use"]
    assert pieces and uses and all(is_verdict(use.input) for use in uses)
    assert final.stop_reason == "tool_use"


def test_a_json_schema(claude: Any) -> None:
    config = {"format": {"type": "json_schema", "schema": SCHEMA}}
    answer = claude.messages.create(**COMMON, output_config=config)
    assert is_verdict(json.loads(answer.content[0].text))


def test_errors_are_the_sdks_own(claude: Any) -> None:
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(**(COMMON | {"model": "nobody"}))
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        claude.messages.create(**(COMMON | {"extra_body": {"temperature": -1}}))
    image = {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/x.png"}}
    with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\].content\[0\]: .*image"):
        claude.messages.create(**(COMMON | {"messages": [{"role": "user", "content": [image]}]}))
