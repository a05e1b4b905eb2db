from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from front_engine import CACHED_TOKENS, EOS_ID, MAX_MODEL_LEN, Frontend, run

from octavo.shared.messages import unpack
from octavo.shared.text.tokenizer import Tokenizer

COMPLETIONS = "/v1/completions"


def test_the_whole_answer(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(COMPLETIONS, model="tiny", prompt="Say")
        body = response.json()
        assert response.status_code == 200
        assert body["object"] == "text_completion" and body["id"].startswith("cmpl-")
        assert body["choices"] == [
            {
                "index": 0,
                "text": "Hello world",
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": None,
            }
        ]
        assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": CACHED_TOKENS}
        [submit] = front.engine.submits
        assert unpack(submit.prompt_ids).tolist() == tokenizer.encode("Say")
        assert submit.sampling.max_tokens == 16

    run(tokenizer, test)


@pytest.mark.parametrize("length", [1, 4])
def test_length_is_the_other_end(tokenizer: Tokenizer, length: int) -> None:
    async def test(front: Frontend) -> None:
        body = (await front.post(COMPLETIONS, prompt="Say", max_tokens=length)).json()
        assert body["choices"][0]["finish_reason"] == "length"
        assert body["usage"]["completion_tokens"] == length

    run(tokenizer, test, reply="Hello world, one two three")


def test_prompt_forms(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        ids = tokenizer.encode("two")
        for prompt, count in (("one", 1), (["one", "two"], 2), (ids, 1), ([ids, [5], [6]], 3)):
            body = (await front.post(COMPLETIONS, prompt=prompt)).json()
            assert [choice["index"] for choice in body["choices"]] == list(range(count))
        sent = [unpack(submit.prompt_ids).tolist() for submit in front.engine.submits]
        one, two = tokenizer.encode("one"), tokenizer.encode("two")
        assert sent == [one, one, two, two, two, [5], [6]]

    run(tokenizer, test)


def test_choices_of_several_prompts_stay_in_order(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        front.engine.reply_to = lambda submit: [*unpack(submit.prompt_ids).tolist(), EOS_ID]
        body = (await front.post(COMPLETIONS, prompt=[[70], [71]], n=2, seed=1)).json()
        texts = [choice["text"] for choice in body["choices"]]
        a, b = tokenizer.token_text(70), tokenizer.token_text(71)
        assert texts == [a, a, b, b]
        assert body["usage"]["prompt_tokens"] == 2
        assert body["usage"]["completion_tokens"] == 8
        seeds = [submit.sampling.seed for submit in front.engine.submits]
        assert seeds[:2] == seeds[2:] and seeds[0] != seeds[1]

    run(tokenizer, test)


def test_each_prompt_has_its_own_room(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        await front.post(COMPLETIONS, prompt=[[5], [5] * 10], max_tokens=None)
        rooms = [submit.sampling.max_tokens for submit in front.engine.submits]
        assert rooms == [MAX_MODEL_LEN - 1, MAX_MODEL_LEN - 10]

    run(tokenizer, test)


def test_streaming(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        options = {"include_usage": True}
        *chunks, last, done = await front.events(
            COMPLETIONS, prompt="Say", echo=True, stream_options=options
        )
        assert done == "[DONE]" and last["choices"] == []
        text = "".join(chunk["choices"][0]["text"] for chunk in chunks)
        assert text == "SayHello world"
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
        assert {chunk["object"] for chunk in chunks} == {"text_completion"}

    run(tokenizer, test)


def test_streamed_and_whole_agree(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        asked: dict[str, Any] = {"prompt": "Say", "logprobs": 1, "echo": True, "stop": ["two"]}
        whole = (await front.post(COMPLETIONS, **asked)).json()["choices"][0]
        *chunks, _ = await front.events(COMPLETIONS, **asked)
        choices = [chunk["choices"][0] for chunk in chunks]
        assert "".join(choice["text"] for choice in choices) == whole["text"]
        for name, values in whole["logprobs"].items():
            assert [v for choice in choices for v in choice["logprobs"][name]] == values, name
        assert choices[-1]["stop_reason"] == whole["stop_reason"] == "two"

    run(tokenizer, test, reply="äöü 😀 one two three")


def test_logprobs(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        body = (await front.post(COMPLETIONS, prompt="Say", logprobs=2)).json()
        ids = [*tokenizer.encode("Hello world", add_special_tokens=False), EOS_ID]
        logprobs = body["choices"][0]["logprobs"]
        assert logprobs["tokens"] == [tokenizer.token_text(i) for i in ids]
        assert logprobs["token_logprobs"] == [-i / 8 for i in ids]
        offsets = [sum(map(len, logprobs["tokens"][:i])) for i in range(len(ids))]
        assert logprobs["text_offset"] == offsets
        top = logprobs["top_logprobs"][0]
        assert top[tokenizer.token_text(10)] == -10 / 8
        assert top[tokenizer.token_text(ids[0])] == -ids[0] / 8
        assert len(top) == 3

    run(tokenizer, test)


def test_echo_with_logprobs_shows_the_prompts(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        body = (await front.post(COMPLETIONS, prompt="Say", echo=True, logprobs=0)).json()
        [choice] = body["choices"]
        prompt = tokenizer.encode("Say")
        output = [*tokenizer.encode("Hello world", add_special_tokens=False), EOS_ID]
        logprobs = choice["logprobs"]
        assert choice["text"] == "SayHello world"
        assert logprobs["token_logprobs"] == [None, *(-i / 8 for i in [*prompt[1:], *output])]
        assert logprobs["tokens"][0] == "<|bos|>"
        assert prompt[1:] == tokenizer.encode("Say", add_special_tokens=False)
        starts = [0, 0, *(len(tokenizer.decode(prompt[:i])) for i in range(2, len(prompt)))]
        assert logprobs["text_offset"][: len(prompt) + 1] == [*starts, 3]
        assert front.engine.submits[0].sampling.prompt_logprobs == 0

    run(tokenizer, test)


def test_echo_alone(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        ids = tokenizer.encode("Say")
        asked: dict[str, Any] = {"prompt": ids, "echo": True, "max_tokens": 0, "logprobs": 1}
        body = (await front.post(COMPLETIONS, **asked)).json()
        [choice] = body["choices"]
        assert (choice["text"], choice["finish_reason"]) == ("Say", "length")
        assert len(choice["logprobs"]["tokens"]) == len(ids)
        assert body["usage"]["completion_tokens"] == 0
        *chunks, _ = await front.events(COMPLETIONS, **asked)
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "Say"

    run(tokenizer, test)


def test_token_ids(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        body = (await front.post(COMPLETIONS, prompt=[5, 6], return_token_ids=True)).json()
        [choice] = body["choices"]
        assert choice["prompt_token_ids"] == [5, 6]
        assert choice["token_ids"][-1] == EOS_ID

    run(tokenizer, test)


def test_prompt_logprobs(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        body = (await front.post(COMPLETIONS, prompt=[5, 6, 7], prompt_logprobs=0)).json()
        first, second, third = body["choices"][0]["prompt_logprobs"]
        assert first is None
        assert second["6"]["logprob"] == -6 / 8 and third["7"]["rank"] == 5

    run(tokenizer, test)


def test_trivial_values_of_unsupported_fields_pass(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(
            COMPLETIONS,
            prompt="Say",
            suffix="",
            best_of=2,
            n=2,
            use_beam_search=False,
            response_format={"type": "text"},
            guided_json=None,
        )
        assert response.status_code == 200, response.text

    run(tokenizer, test)


def test_a_long_prompt_is_tokenized_off_the_loop(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    async def to_thread(work: Callable[[], Any]) -> Any:
        calls.append(1)
        return work()

    async def test(front: Frontend) -> None:
        monkeypatch.setattr(asyncio, "to_thread", to_thread)
        await front.post(COMPLETIONS, prompt="short")
        assert not calls
        await front.post(COMPLETIONS, prompt="x" * 5000, truncate_prompt_tokens=8)
        assert calls == [1]

    run(tokenizer, test)
