"""The openai SDK against real processes and the bundled demo model."""

from __future__ import annotations

from typing import Any

import openai
import pytest

QUESTION: list[Any] = [{"role": "user", "content": "What is 47 + 38?"}]
STORY: list[Any] = [{"role": "user", "content": "Tell me a short story."}]


def test_chat_answers_and_stops_by_itself(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="demo", messages=QUESTION, temperature=0)
    assert "85" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details is not None


def test_streamed_text_equals_unstreamed(client: openai.OpenAI) -> None:
    common: dict[str, Any] = {"model": "demo", "messages": STORY, "seed": 7, "max_tokens": 80}
    whole = client.chat.completions.create(**common)
    stream = client.chat.completions.create(
        **common, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage is not None and whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    finish = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert finish[-1] == whole.choices[0].finish_reason and not any(finish[:-1])


def test_completion_with_logprobs_and_echo(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="demo", prompt="Hello there", max_tokens=4, temperature=0, logprobs=3, echo=True
    )
    choice = answer.choices[0]
    assert choice.text.startswith("Hello there")
    assert choice.logprobs is not None
    assert choice.logprobs.tokens is not None and choice.logprobs.token_logprobs is not None
    assert len(choice.logprobs.tokens) == len(choice.logprobs.token_logprobs)
    assert choice.logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in choice.logprobs.token_logprobs[1:])
    assert "".join(choice.logprobs.tokens) == choice.text


def test_chat_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="demo", messages=QUESTION, temperature=0, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content
    for entry in logprobs.content:
        assert len(entry.top_logprobs) == 2
        assert entry.logprob == pytest.approx(entry.top_logprobs[0].logprob)


def test_n_gives_different_samples(client: openai.OpenAI) -> None:
    common: dict[str, Any] = {"model": "demo", "messages": STORY, "max_tokens": 40, "n": 3}
    first = client.chat.completions.create(**common, temperature=1.5, seed=1)
    again = client.chat.completions.create(**common, temperature=1.5, seed=1)
    texts = [choice.message.content for choice in first.choices]
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert len(set(texts)) > 1
    assert texts == [choice.message.content for choice in again.choices]


def test_stop_string(client: openai.OpenAI) -> None:
    common: dict[str, Any] = {"model": "demo", "messages": QUESTION, "temperature": 0}
    answer = client.chat.completions.create(**common, stop=["85"])
    assert answer.choices[0].finish_reason == "stop"
    assert "85" not in (answer.choices[0].message.content or "")
    kept = client.chat.completions.create(
        **common, stop=["85"], extra_body={"include_stop_str_in_output": True}
    )
    assert (kept.choices[0].message.content or "").endswith("85")


def test_prefix_cache_shows_in_usage(client: openai.OpenAI) -> None:
    prompt = "A shared prefix, long enough for some blocks of the cache. " * 8
    common: dict[str, Any] = {"model": "demo", "prompt": prompt, "max_tokens": 2, "temperature": 0}
    first = client.completions.create(**common)
    second = client.completions.create(**common)
    assert first.choices[0].text == second.choices[0].text
    assert second.usage is not None and second.usage.prompt_tokens_details is not None
    assert (second.usage.prompt_tokens_details.cached_tokens or 0) >= 16


def test_token_prompts_and_batches(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="demo", prompt=[[10, 11, 12], [13, 14]], max_tokens=3, temperature=0
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage is not None and answer.usage.prompt_tokens == 5


def test_errors_are_the_sdk_s_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=QUESTION)
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="demo", messages=QUESTION, temperature=-1)
    assert raised.value.param == "temperature"


def test_models_list(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == "demo"
