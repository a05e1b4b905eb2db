"""Conformance cases of the fields that chat and text completions share."""

from __future__ import annotations

import time
from typing import Any

from conformance import CHAT, HEADER, Case, Probe, ignored, not_supported, sent, text_of
from front_engine import EOS_ID

from octavo.shared.messages import unpack

SAMPLING = "tests/kernels/test_sampling.py"
PENALTIES = "tests/kernels/test_penalties.py"
CONSTRAINTS = "tests/worker/test_constraints.py"
LIFE = "tests/scheduler/test_scheduler.py"


def prompt_ids(probe: Probe) -> list[int]:
    ids: list[int] = unpack(probe.submit.prompt_ids).tolist()
    return ids


async def model(probe: Probe) -> None:
    assert (await probe.ask(model="alias"))["model"] == "alias"
    assert (await probe.post(model="other")).status_code == 404


async def several(probe: Probe) -> None:
    answer = await probe.ask(n=3)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    seeds = {one.sampling.seed for one in probe.front.engine.submits}
    assert len(seeds) == 3


async def streamed(probe: Probe) -> None:
    whole = await probe.text()
    *chunks, end = await probe.stream()
    assert end == "[DONE]"
    parts = [one["choices"][0] for one in chunks]
    texts = [one["delta"].get("content", "") if "delta" in one else one["text"] for one in parts]
    assert "".join(texts) == whole and len(texts) > 1


async def include_usage(probe: Probe) -> None:
    *chunks, last, _ = await probe.stream(stream_options={"include_usage": True})
    assert last["choices"] == [] and last["usage"]["completion_tokens"] > 0
    assert all(chunk["usage"] is None for chunk in chunks)
    options = {"include_usage": True, "continuous_usage_stats": True}
    first, *_ = await probe.stream(stream_options=options)
    assert first["usage"]["completion_tokens"] == 1


async def stop(probe: Probe) -> None:
    answer = await probe.ask(stop=["world"])
    choice = answer["choices"][0]
    assert (text_of(choice), choice["stop_reason"]) == ("Hello ", "world")
    assert await probe.text(stop="lo") == "Hel"


async def include_stop(probe: Probe) -> None:
    assert await probe.text(stop="wor", include_stop_str_in_output=True) == "Hello wor"


async def stop_ids(probe: Probe) -> None:
    world = probe.front.tokenizer.encode(" world", add_special_tokens=False)[0]
    probe.front.engine.reply = [*probe.front.engine.reply[:1], world]
    choice = (await probe.ask(stop_token_ids=[world], max_tokens=2))["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", world)


async def special_tokens(probe: Probe) -> None:
    probe.front.engine.reply = [*probe.front.engine.reply, 1]
    assert "<|im_start|>" not in await probe.text()
    assert "<|im_start|>" in await probe.text(skip_special_tokens=False)


async def bad_words(probe: Probe) -> None:
    await probe.ask(bad_words=["hello"])
    decode = probe.front.tokenizer.decode
    assert [decode(ids) for ids in probe.submit.sampling.bad_words_ids] == ["hello", " hello"]


async def prompt_logprobs(probe: Probe) -> None:
    answer = await probe.ask(prompt_logprobs=1)
    holder = answer if probe.route == CHAT else answer["choices"][0]
    first, *others = holder["prompt_logprobs"]
    assert first is None and len(others) == len(prompt_ids(probe)) - 1
    assert others[0][str(prompt_ids(probe)[1])]["rank"] == 5


async def truncated(probe: Probe) -> None:
    await probe.ask()
    whole = prompt_ids(probe)
    await probe.ask(truncate_prompt_tokens=2)
    assert prompt_ids(probe) == whole[-2:]
    await probe.ask(truncate_prompt_tokens=-1, max_tokens=1)
    assert prompt_ids(probe) == whole


async def truncated_right(probe: Probe) -> None:
    await probe.ask()
    whole = prompt_ids(probe)
    await probe.ask(truncate_prompt_tokens=2, truncation_side="right")
    assert prompt_ids(probe) == whole[:2]
    await probe.ask(truncate_prompt_tokens=2, truncation_side="left")
    assert prompt_ids(probe) == whole[-2:]


async def special_in_prompt(probe: Probe) -> None:
    await probe.ask(add_special_tokens=False)
    without = prompt_ids(probe)
    await probe.ask(add_special_tokens=True)
    assert prompt_ids(probe) == [0, *without]


async def token_ids(probe: Probe) -> None:
    answer = await probe.ask(return_token_ids=True)
    choice = answer["choices"][0]
    assert choice["token_ids"] == [*probe.front.engine.reply, EOS_ID]
    holder = answer if probe.route == CHAT else choice
    assert holder["prompt_token_ids"] == prompt_ids(probe)


async def tokens_as_ids(probe: Probe) -> None:
    asked: Any = True if probe.route == CHAT else 0
    answer = await probe.ask(logprobs=asked, return_tokens_as_token_ids=True)
    logprobs = answer["choices"][0]["logprobs"]
    first = logprobs["content"][0]["token"] if probe.route == CHAT else logprobs["tokens"][0]
    assert first == f"token_id:{probe.front.engine.reply[0]}"


async def prompt_text(probe: Probe) -> None:
    answer = await probe.ask(return_prompt_text=True)
    holder = answer if probe.route == CHAT else answer["choices"][0]
    assert holder["prompt_text"].startswith("<|bos|>") and "Hi" in holder["prompt_text"]


async def token_offsets(probe: Probe) -> None:
    answer = await probe.ask(return_token_offsets=True, return_prompt_text=True)
    holder = answer if probe.route == CHAT else answer["choices"][0]
    text, spans = holder["prompt_text"], holder["prompt_token_offsets"]
    decode = probe.front.tokenizer.token_text
    assert [text[a:b] for a, b in spans] == [decode(i) for i in prompt_ids(probe)]


async def priority(probe: Probe) -> None:
    await probe.ask(priority=-5)
    assert probe.submit.priority == -5


async def cache_salt(probe: Probe) -> None:
    await probe.ask(cache_salt="mine")
    assert probe.submit.cache_salt == "mine"


async def deadline_ms(probe: Probe) -> None:
    before = time.monotonic()
    await probe.ask(deadline_ms=5000)
    assert before + 4.9 < probe.submit.until.end < time.monotonic() + 5.1
    await probe.ask(deadline_ms={"queue": 1000, "ttft": 2000})
    until = probe.submit.until
    assert 0.9 < until.first_token - until.queue < 1.1 and not until.end


async def request_id(probe: Probe) -> None:
    response = await probe.post(request_id="job-7")
    assert response.json()["id"].endswith("-job-7")
    assert response.headers["x-request-id"] == "job-7"


async def repetition(probe: Probe) -> None:
    probe.front.engine.reply = [70, 71] * 20
    asked = {"max_pattern_size": 4, "min_pattern_size": 2, "min_count": 3}
    answer = await probe.ask(repetition_detection=asked, return_token_ids=True, max_tokens=40)
    choice = answer["choices"][0]
    assert (choice["finish_reason"], len(choice["token_ids"])) == ("repetition", 6)


async def coalesced(probe: Probe) -> None:
    probe.front.engine.reply = [70] * 10
    chunks = await probe.stream(stream_interval=4, return_token_ids=True, max_tokens=10)
    counts = [len(one["choices"][0]["token_ids"]) for one in chunks[:-1]]
    assert counts == [1, 4, 4, 1]


async def beams(probe: Probe) -> None:
    answer = await probe.ask(use_beam_search=True, n=3, max_tokens=2)
    assert len(answer["choices"]) == 3
    steps = probe.front.engine.submits
    assert [one.sampling.logprobs for one in steps] == [6] * 4
    assert {one.sampling.max_tokens for one in steps} == {1}


async def length_penalty(probe: Probe) -> None:
    response = await probe.post(length_penalty=2.0)
    assert response.headers[HEADER] == "length_penalty"
    response = await probe.post(use_beam_search=True, max_tokens=1, length_penalty=2.0)
    assert response.status_code == 200 and HEADER not in response.headers


async def json_schema(probe: Probe) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    shape = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    await probe.ask(response_format=shape)
    assert probe.submit.sampling.grammar is not None
    await probe.ask(response_format={"type": "text"})
    assert probe.submit.sampling.grammar is None


async def structured(probe: Probe) -> None:
    for asked in ({"regex": "[a-z]+"}, {"choice": ["a", "b"]}, {"json": {"type": "object"}}):
        await probe.ask(structured_outputs=asked)
        assert probe.submit.sampling.grammar is not None


GENERATION = [
    Case("model", "a served name; absent: the first", "echoed; unknown: 404", model, ["x" * 257]),
    Case("n", "1 to 16", "so many choices, each with a seed of its own", several, [0, 17]),
    Case("stream", "boolean", "server-sent events, ended by `[DONE]`", streamed, ["yes"]),
    Case(
        "stream_options",
        "include_usage, continuous_usage_stats; needs stream",
        "a last chunk with usage; usage on every chunk",
        include_usage,
        [{"include_usage": True}],
    ),
    Case(
        *("temperature", "0 to 100; 0 is greedy", "reaches the engine"),
        sent("temperature", 0.5),
        [-0.1, 100.5, "hot"],
        elsewhere=SAMPLING,
    ),
    Case(
        *("top_p", "1e-6 to 1", "reaches the engine"),
        sent("top_p", 0.5),
        [0, 1.01],
        elsewhere=SAMPLING,
    ),
    Case(
        *("top_k", "-1 to 2^31 - 1; -1 and 0 are off", "reaches the engine"),
        sent("top_k", 7),
        [-2, 2**31],
        elsewhere=SAMPLING,
    ),
    Case(
        *("min_p", "0 to 1", "reaches the engine"),
        sent("min_p", 0.1),
        [-0.1, 1.1],
        elsewhere=SAMPLING,
    ),
    Case(
        *("presence_penalty", "-2 to 2", "reaches the engine"),
        sent("presence_penalty", 1.5),
        [-2.1, 2.1],
        elsewhere=PENALTIES,
    ),
    Case(
        *("frequency_penalty", "-2 to 2", "reaches the engine"),
        sent("frequency_penalty", -1.5),
        [-2.1, 2.1],
        elsewhere=PENALTIES,
    ),
    Case(
        *("repetition_penalty", "0.001 to 100", "reaches the engine"),
        sent("repetition_penalty", 1.5),
        [0, 101],
        elsewhere=PENALTIES,
    ),
    Case(
        *("seed", "64 bits, signed", "reaches the engine; equal seeds, equal answers"),
        sent("seed", 17),
        [2**63, 1.5],
        elsewhere=SAMPLING,
    ),
    Case(
        "stop", "a string, or up to 16, of 1 to 256 bytes", "ends the text", stop, ["", ["x"] * 17]
    ),
    Case(
        "stop_token_ids", "up to 256 ids", "the id ends the output", stop_ids, [[10**6], [1] * 257]
    ),
    Case(
        *("include_stop_str_in_output", "boolean", "the text keeps the stop string"),
        include_stop,
        ["x"],
    ),
    Case("ignore_eos", "boolean", "reaches the engine", sent("ignore_eos", True), [3]),
    Case(
        *("max_tokens", "1 to what the context leaves", "at most so many tokens"),
        sent("max_tokens", 2),
        [10**30, -1, 10**6],
        elsewhere=LIFE,
    ),
    Case(
        *("min_tokens", "0 to max_tokens", "reaches the engine"),
        sent("min_tokens", 2, max_tokens=5),
        [-1, {"min_tokens": 9, "max_tokens": 3}],
        elsewhere=LIFE,
    ),
    Case(
        *("logit_bias", "up to 1024 ids, each -100 to 100", "reaches the engine"),
        sent("logit_bias", {"5": 2.0}, {5: 2.0}),
        [{"1": 101}, {"99999": 1}, {"x": 1}],
        elsewhere=PENALTIES,
    ),
    Case(
        *("allowed_token_ids", "1 to 2^19 ids", "reaches the engine: no other is sampled"),
        sent("allowed_token_ids", [5, 6]),
        [[], [10**6], [-1]],
        elsewhere=CONSTRAINTS,
    ),
    Case(
        *(
            "bad_words",
            "up to 256 of 1 to 256 characters",
            "reaches the engine as ids, each word with and without a space",
        ),
        bad_words,
        [[""], ["  "], ["x" * 257], ["x"] * 257],
        elsewhere=CONSTRAINTS,
    ),
    Case(
        *("skip_special_tokens", "boolean", "special tokens are left out of the text"),
        special_tokens,
        [0],
    ),
    Case(
        *("prompt_logprobs", "0 to 20; not streamed", "an entry for each prompt token"),
        prompt_logprobs,
        [-1, 21, {"prompt_logprobs": 1, "stream": True}],
    ),
    Case(
        *("truncate_prompt_tokens", "-1 or 1 to the context's length", "keeps so many"),
        truncated,
        [0, -2, 129],
    ),
    Case(
        *("truncation_side", "left, right", "which end of the prompt is cut off"),
        truncated_right,
        ["up"],
    ),
    Case(
        *("add_special_tokens", "boolean", "whether the tokenizer adds its special tokens"),
        special_in_prompt,
        [1],
    ),
    Case("return_token_ids", "boolean", "`token_ids` and `prompt_token_ids`", token_ids, ["x"]),
    Case(
        *("return_tokens_as_token_ids", "boolean", "logprobs name tokens `token_id:17`"),
        tokens_as_ids,
        ["x"],
    ),
    Case("return_prompt_text", "boolean", "`prompt_text`", prompt_text, ["x"]),
    Case(
        *(
            "return_token_offsets",
            "boolean",
            "`prompt_token_offsets`: each prompt token's place in the text",
        ),
        token_offsets,
        ["x"],
    ),
    Case(
        *("priority", "-(2^31 - 1) to 2^31 - 1; lower goes first", "reaches the engine"),
        priority,
        [2**31, -(2**31)],
        elsewhere="tests/scheduler/test_waiting_queue.py",
    ),
    Case(
        *("cache_salt", "up to 128 characters without @ / \\ NUL", "a prefix cache of its own"),
        cache_salt,
        ["x" * 129, "a@b", "a/b", "a\\b", "a\0"],
        elsewhere="tests/scheduler/test_prefix_cache.py",
    ),
    Case(
        *(
            "deadline_ms",
            "1 to 86400000, or such for `queue`, `ttft`, `total`",
            "ends with `deadline_exceeded` after so long; a number is `total`",
        ),
        deadline_ms,
        [0, 86_400_001, 1.5, "5", {"ttft": 0}, {"first": 5}],
        elsewhere="tests/scheduler/test_tenants.py",
    ),
    Case(
        *("request_id", "1 to 128 of A-Z a-z 0-9 . _ : / + = @ -", "in `id` and X-Request-Id"),
        request_id,
        ["", "a b", "x" * 129, "a\n"],
    ),
    Case(
        *("repetition_detection", "sizes 0 to 128, min_count 2 to 4096", "ends with `repetition`"),
        repetition,
        [
            {"max_pattern_size": 129},
            {"max_pattern_size": 2, "min_pattern_size": 3, "min_count": 2},
            {"max_pattern_size": 2, "min_count": 1},
        ],
    ),
    Case("stream_interval", "1 to 1024", "so many tokens in a chunk", coalesced, [0, 1025]),
    Case(
        *("use_beam_search", "boolean; with n of at most 10, not streamed", "the n best outputs"),
        beams,
        ["x"],
        elsewhere="tests/frontend/test_beam_search.py",
    ),
    Case(
        *(
            "length_penalty",
            "-10 to 10; with use_beam_search",
            "a beam's score is divided by its length to this power",
        ),
        length_penalty,
        [11, -11],
        elsewhere="tests/frontend/test_beam_search.py",
    ),
    Case(
        *("response_format", "text, json_object, json_schema, structural_tag", "constrains"),
        json_schema,
        [{"type": "xml"}],
        elsewhere="tests/frontend/test_structured_output.py",
    ),
    Case(
        *("structured_outputs", "one of json, regex, choice, grammar, ...", "constrains"),
        structured,
        [{"regex": "("}, {}],
        elsewhere="tests/frontend/test_structured_output.py",
    ),
    *(
        not_supported(name, value)
        for name, value in {
            "logprob_token_ids": [1],
            "watermarking": True,
            "kv_transfer_params": {"a": 1},
            "ec_transfer_params": {"a": 1},
            "routed_experts_prompt_start": 1,
            "guided_json": {"type": "object"},
            "guided_regex": "a",
            "guided_choice": ["a"],
            "guided_grammar": "a",
            "guided_json_object": True,
            "structural_tag": {"a": 1},
            "regex": "a",
            "ebnf": "a",
            "stop_regex": "a",
            "no_stop_trim": True,
            "lora_path": "a",
            "custom_logit_processor": "a",
        }.items()
    ),
    *(
        ignored(name, value)
        for name, value in {
            "metadata": {"a": "b"},
            "store": True,
            "service_tier": "auto",
            "session_id": "a",
            "spaces_between_special_tokens": False,
            "vllm_xargs": {"a": 1},
            "return_weight_versions": True,
            "custom_labels": {"a": "b"},
            "prompt_cache_key": "a",
            "prompt_cache_retention": "24h",
            "prediction": {"type": "content"},
            "a_field_nobody_knows": 1,
        }.items()
    ),
]
