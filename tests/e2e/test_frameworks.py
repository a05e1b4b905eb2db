"""Two agent frameworks: chat, streaming, tools, JSON schema and embeddings."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from octavo_server import Server
from sdk_tasks import QUESTION, TOOL_NAME, TOOL_TEXT, Verdict

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def leaks_stay_here() -> Iterator[None]:
    """The frameworks leave sockets to the collector, whose warnings belong to these tests."""
    yield
    gc.collect()


TEXTS = ["The sun is a star.", "A cat sleeps."]


class PydanticAi:
    """pydantic-ai on the chat completions or, where `responses`, on the Responses API."""

    def __init__(self, server: Server, responses: bool = False) -> None:
        pytest.importorskip("pydantic_ai")
        from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
        from pydantic_ai.providers.openai import OpenAIProvider

        self.provider = OpenAIProvider(base_url=f"{server.url}/v1", api_key="none")
        kind: Any = OpenAIResponsesModel if responses else OpenAIChatModel
        self.model = kind("demo", provider=self.provider)

    def agent(self, **options: Any) -> Any:
        from pydantic_ai import Agent

        return Agent(self.model, model_settings={"temperature": 0, "max_tokens": 200}, **options)

    def run(self, **options: Any) -> Any:
        async def main() -> Any:
            return (await self.agent(**options).run(QUESTION)).output

        return asyncio.run(main())

    def streamed(self) -> list[str]:
        async def main() -> list[str]:
            async with self.agent().run_stream(QUESTION) as result:
                return [piece async for piece in result.stream_text(delta=True, debounce_by=None)]

        return asyncio.run(main())


@pytest.mark.parametrize("responses", [False, True])
def test_pydantic_ai_chats(server: Server, responses: bool) -> None:
    framework = PydanticAi(server, responses)
    pieces = framework.streamed()
    assert "85" in "".join(pieces) and len(pieces) > 1
    assert framework.run() == "".join(pieces)


@pytest.mark.parametrize("responses", [False, True])
def test_pydantic_ai_calls_a_tool(server: Server, responses: bool) -> None:
    framework = PydanticAi(server, responses)
    seen: list[Verdict] = []

    def judge(verdict: Verdict) -> str:
        """Say what kind of number the answer is."""
        seen.append(verdict)
        return "judged"

    assert framework.run(output_type=judge) == "judged" and len(seen) == 1


@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("kind", ["NativeOutput", "ToolOutput"])
def test_pydantic_ai_fills_a_schema(server: Server, responses: bool, kind: str) -> None:
    framework = PydanticAi(server, responses)
    wanted = getattr(pytest.importorskip("pydantic_ai"), kind)(Verdict)
    assert isinstance(framework.run(output_type=wanted), Verdict)


def test_pydantic_ai_embeds(embedder: Server) -> None:
    framework = PydanticAi(embedder)
    from pydantic_ai import Embedder
    from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel

    embeds = Embedder(OpenAIEmbeddingModel("demo", provider=framework.provider))
    result = asyncio.run(embeds.embed_documents(TEXTS))
    assert len(result.embeddings) == 2 and len(set(map(len, result.embeddings))) == 1


def langchain(server: Server, **options: Any) -> Any:
    found = pytest.importorskip("langchain_openai")
    common: dict[str, Any] = {"base_url": f"{server.url}/v1", "api_key": "none", "model": "demo"}
    return found.ChatOpenAI(**common, temperature=0, max_tokens=200, max_retries=0, **options)


@pytest.mark.parametrize("responses", [False, True])
def test_langchain_chats(server: Server, responses: bool) -> None:
    model = langchain(server, use_responses_api=responses)
    pieces = [str(chunk.text) for chunk in model.stream(QUESTION)]
    assert "85" in "".join(pieces) and len(pieces) > 1
    whole = model.invoke(QUESTION)
    assert str(whole.text) == "".join(pieces)
    assert whole.usage_metadata["output_tokens"] > 0


@pytest.mark.parametrize("responses", [False, True])
def test_langchain_calls_a_tool(server: Server, responses: bool) -> None:
    model = langchain(server, use_responses_api=responses)

    class judge(Verdict):
        __doc__ = TOOL_TEXT

    bound = model.bind_tools([judge], tool_choice="required", parallel_tool_calls=False)
    answer = bound.invoke(QUESTION)
    [call] = answer.tool_calls
    assert call["name"] == TOOL_NAME and Verdict.model_validate(call["args"])
    total: Any = None
    for chunk in bound.stream(QUESTION):
        total = chunk if total is None else total + chunk
    assert [one["args"] for one in total.tool_calls] == [call["args"]]


@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_fills_a_schema(server: Server, responses: bool, method: str) -> None:
    model = langchain(server, use_responses_api=responses)
    structured = model.with_structured_output(Verdict, method=method)
    assert isinstance(structured.invoke(QUESTION), Verdict)


def test_langchain_embeds(embedder: Server) -> None:
    found = pytest.importorskip("langchain_openai")
    embeddings = found.OpenAIEmbeddings(
        base_url=f"{embedder.url}/v1",
        api_key="none",
        model="demo",
        check_embedding_ctx_length=False,
    )
    vectors = embeddings.embed_documents(TEXTS)
    assert len(vectors) == 2 and len(set(map(len, vectors))) == 1
