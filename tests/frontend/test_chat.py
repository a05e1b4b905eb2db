from __future__ import annotations

import asyncio
from typing import Any

import pytest
from front_engine import CACHED_TOKENS, EOS_ID, MAX_MODEL_LEN, Frontend, run

from octavo.shared.messages import Submit, unpack
from octavo.shared.text.tokenizer import Tokenizer

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "Hi"}]


def prompt_of(tokenizer: Tokenizer, submit: Submit) -> str:
    return tokenizer.decode(unpack(submit.prompt_ids).tolist(), skip_special_tokens=False)


def test_the_whole_answer(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(CHAT, model="alias", messages=HI)
        body = response.json()
        prompt = tokenizer.apply_chat_template(HI)
        completion = tokenizer.encode("Hello world", add_special_tokens=False)
        assert response.status_code == 200
        assert body["object"] == "chat.completion" and body["id"].startswith("chatcmpl-")
        assert body["model"] == "alias" and body["system_fingerprint"].startswith("octavo-")
        assert body["choices"] == [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello world", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": None,
            }
        ]
        assert body["usage"] == {
            "prompt_tokens": len(prompt),
            "completion_tokens": len(completion) + 1,
            "total_tokens": len(prompt) + len(completion) + 1,
            "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
        }
        [submit] = front.engine.submits
        assert unpack(submit.prompt_ids).tolist() == prompt
        assert submit.sampling.eos_token_ids == [EOS_ID]
        assert submit.sampling.max_tokens == MAX_MODEL_LEN - len(prompt)
        assert len(submit.request_id) == 16 and submit.sampling.seed is not None

    run(tokenizer, test)


def test_the_streamed_answer(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        events = await front.events(CHAT, messages=HI)
        *chunks, done = events
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert done == "[DONE]"
        assert deltas[0]["role"] == "assistant" and "role" not in deltas[-1]
        assert "".join(delta["content"] for delta in deltas) == "Hello world"
        reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
        assert reasons == [None] * (len(chunks) - 1) + ["stop"]
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        assert len({chunk["id"] for chunk in chunks}) == 1
        assert not any("usage" in chunk for chunk in chunks)

    run(tokenizer, test)


def test_stream_options(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        options = {"include_usage": True}
        *chunks, last, _ = await front.events(CHAT, messages=HI, stream_options=options)
        assert last["choices"] == [] and last["usage"]["completion_tokens"] > 1
        assert all(chunk["usage"] is None for chunk in chunks)
        options["continuous_usage_stats"] = True
        *chunks, last, _ = await front.events(CHAT, messages=HI, stream_options=options)
        counts = [chunk["usage"]["completion_tokens"] for chunk in [*chunks, last]]
        assert counts == sorted(counts) and counts[0] >= 1
        refused = await front.post(CHAT, messages=HI, stream_options=options)
        assert refused.json()["error"]["param"] == "stream_options"

    run(tokenizer, test)


def test_every_field_reaches_the_engine(tokenizer: Tokenizer) -> None:
    fields: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "min_p": 0.1,
        "presence_penalty": 0.2,
        "frequency_penalty": -0.3,
        "repetition_penalty": 1.1,
        "seed": 11,
        "stop": ["never"],
        "stop_token_ids": [9],
        "include_stop_str_in_output": True,
        "ignore_eos": True,
        "min_tokens": 2,
        "skip_special_tokens": False,
    }

    async def test(front: Frontend) -> None:
        body = fields | {"logit_bias": {"17": -100}, "max_completion_tokens": 5, "max_tokens": 9}
        response = await front.post(
            CHAT, messages=HI, **body, priority=-3, cache_salt="salt", user="ignored", store=True
        )
        assert response.status_code == 200, response.text
        [submit] = front.engine.submits
        for name, value in fields.items():
            assert getattr(submit.sampling, name) == value, name
        assert submit.sampling.logit_bias == {17: -100.0}
        assert submit.sampling.max_tokens == 5
        assert (submit.priority, submit.cache_salt) == (-3, "salt")

    run(tokenizer, test)


def test_null_means_absent(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        names = ("temperature", "top_p", "stop", "seed", "n", "logit_bias", "stream", "tools")
        response = await front.post(CHAT, messages=HI, **dict.fromkeys(names))
        assert response.status_code == 200, response.text

    run(tokenizer, test)


def test_the_models_defaults_apply_where_the_request_is_silent(tokenizer: Tokenizer) -> None:
    defaults = {"temperature": 0.6, "top_k": 20.0, "max_new_tokens": 3.0}

    async def test(front: Frontend) -> None:
        await front.post(CHAT, messages=HI)
        await front.post(CHAT, messages=HI, temperature=0, max_tokens=4)
        silent, said = (submit.sampling for submit in front.engine.submits)
        assert (silent.temperature, silent.top_k, silent.max_tokens) == (0.6, 20, 3)
        assert (said.temperature, said.top_k, said.max_tokens) == (0.0, 20, 4)

    run(tokenizer, test, sampling_defaults=defaults)


def test_n_choices_have_seeds_of_their_own(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        body = (await front.post(CHAT, messages=HI, n=3, seed=5)).json()
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
        assert {choice["message"]["content"] for choice in body["choices"]} == {"Hello world"}
        prompt = len(tokenizer.apply_chat_template(HI))
        assert body["usage"]["prompt_tokens"] == prompt
        assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == CACHED_TOKENS
        seeds = [submit.sampling.seed for submit in front.engine.submits]
        assert seeds[0] == 5 and len(set(seeds)) == 3
        assert [submit.num_choices for submit in front.engine.submits] == [3, 0, 0]
        assert all(0 <= (seed or 0) < 2**63 for seed in seeds)
        await front.post(CHAT, messages=HI, n=3, seed=5)
        assert [submit.sampling.seed for submit in front.engine.submits[3:]] == seeds
        events = await front.events(CHAT, messages=HI, n=2)
        assert {event["choices"][0]["index"] for event in events[:-1]} == {0, 1}

    run(tokenizer, test)


def test_logprobs(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        asked = {"messages": HI, "logprobs": True, "top_logprobs": 2}
        choice = (await front.post(CHAT, **asked)).json()["choices"][0]
        ids = [*tokenizer.encode("Hello world", add_special_tokens=False), EOS_ID]
        entries = choice["logprobs"]["content"]
        assert [entry["token"] for entry in entries] == [tokenizer.token_text(i) for i in ids]
        assert [entry["logprob"] for entry in entries] == [-i / 8 for i in ids]
        assert bytes(entries[0]["bytes"]).decode() == entries[0]["token"]
        assert [len(entry["top_logprobs"]) for entry in entries] == [2] * len(ids)
        assert entries[0]["top_logprobs"][0]["logprob"] == -10 / 8
        streamed = await front.events(CHAT, **asked)
        pieces = [event["choices"][0]["logprobs"]["content"] for event in streamed[:-1]]
        assert sum(pieces, []) == entries  # noqa: RUF017
        plain = (await front.post(CHAT, messages=HI, logprobs=True)).json()["choices"][0]
        assert plain["logprobs"]["content"][0]["top_logprobs"] == []
        named = await front.post(CHAT, **asked, return_tokens_as_token_ids=True)
        first = named.json()["choices"][0]["logprobs"]["content"][0]
        assert first["token"] == f"token_id:{ids[0]}"

    run(tokenizer, test)


def test_prompt_logprobs_and_token_ids(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        response = await front.post(CHAT, messages=HI, prompt_logprobs=1, return_token_ids=True)
        body = response.json()
        ids = tokenizer.apply_chat_template(HI)
        assert body["prompt_token_ids"] == ids
        assert body["choices"][0]["token_ids"][-1] == EOS_ID
        first, *rest = body["prompt_logprobs"]
        assert first is None and len(rest) == len(ids) - 1
        for token_id, entry in zip(ids[1:], rest, strict=True):
            assert entry[str(token_id)]["logprob"] == -token_id / 8
            assert entry["10"]["rank"] == (5 if token_id == 10 else 1)
        *chunks, _ = await front.events(CHAT, messages=HI, return_token_ids=True)
        assert chunks[0]["prompt_token_ids"] == ids
        streamed = [i for chunk in chunks for i in chunk["choices"][0]["token_ids"]]
        assert streamed == body["choices"][0]["token_ids"]

    run(tokenizer, test)


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_abort_the_engine(tokenizer: Tokenizer, stream: bool) -> None:
    async def test(front: Frontend) -> None:
        front.engine.hold = True
        call = asyncio.create_task(front.post(CHAT, messages=HI, stop="wor", stream=stream))
        await front.settle()
        [submit] = front.engine.submits
        for token_id in tokenizer.encode("Hello world and more", add_special_tokens=False):
            front.engine.token(submit, token_id)
        response = await call
        await front.settle()
        assert front.engine.aborted == [submit.request_id]
        assert front.engine_client.num_live == 0
        assert '"finish_reason":"stop","stop_reason":"wor"' in response.text
        assert "world" not in response.text and ("[DONE]" in response.text) is stream

    run(tokenizer, test)


def test_the_first_token_goes_out_at_once_and_later_ones_together(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        events = await front.events(CHAT, messages=HI, max_tokens=5, ignore_eos=True)
        texts = [event["choices"][0]["delta"]["content"] for event in events[:-1]]
        assert texts[0] and "".join(texts).startswith(texts[0])

    run(tokenizer, test)


def test_template_options(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        open_chat = [*HI, {"role": "assistant", "content": "Well"}]
        parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        shout = {"shout": True, "self": 1, "options": 2}
        await front.post(CHAT, messages=HI, chat_template_kwargs=shout)
        await front.post(CHAT, messages=open_chat, continue_final_message=True)
        await front.post(CHAT, messages=HI, add_generation_prompt=False)
        await front.post(CHAT, messages=[{"role": "user", "content": parts}])
        loud, opened, closed, joined = (prompt_of(tokenizer, s) for s in front.engine.submits)
        assert "LOUD" in loud
        assert opened.endswith("assistant\nWell")
        assert closed.endswith("<|im_end|>\n")
        assert "user\na\nb<|im_end|>" in joined

    run(tokenizer, test)


def test_truncation_keeps_the_end(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        await front.post(CHAT, messages=HI, truncate_prompt_tokens=4)
        long = [{"role": "user", "content": "x" * 500}]
        assert (await front.post(CHAT, messages=long)).status_code == 400
        response = await front.post(CHAT, messages=long, truncate_prompt_tokens=-1)
        assert response.status_code == 200
        short, cut = (unpack(submit.prompt_ids).tolist() for submit in front.engine.submits)
        assert short == tokenizer.apply_chat_template(HI)[-4:]
        assert len(cut) == MAX_MODEL_LEN - 1

    run(tokenizer, test)


def test_tools_that_are_not_to_be_used_are_ignored(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        tools = [{"type": "function", "function": {"name": "f"}}]
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
        chat = [
            *HI,
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "2"},
        ]
        response = await front.post(CHAT, messages=chat, tools=tools, tool_choice="none")
        assert response.status_code == 200, response.text

    run(tokenizer, test)
