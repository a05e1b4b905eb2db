"""Conformance cases of text completions, /tokenize and /detokenize."""

from __future__ import annotations

from conformance import COMPLETIONS, DETOKENIZE, TOKENIZE, Case, Probe, not_supported
from conformance_chat import DOCUMENTS_TEMPLATE, TRUST
from conformance_generation import prompt_ids

HI = [{"role": "user", "content": "Hi"}]
ONLY, SPLIT, JOIN = (COMPLETIONS,), (TOKENIZE,), (DETOKENIZE,)


async def prompts(probe: Probe) -> None:
    encode = probe.front.tokenizer.encode
    for given, ids in (("Hi", [encode("Hi")]), (["a", "b"], [encode("a"), encode("b")])):
        answer = await probe.ask(prompt=given, return_token_ids=True)
        assert [choice["prompt_token_ids"] for choice in answer["choices"]] == ids
    await probe.ask(prompt=[5, 6])
    assert prompt_ids(probe) == [5, 6]
    assert len((await probe.ask(prompt=[[5], [6]]))["choices"]) == 2


async def max_tokens(probe: Probe) -> None:
    await probe.ask()
    assert probe.submit.sampling.max_tokens == 16


async def logprobs(probe: Probe) -> None:
    found = (await probe.ask(logprobs=2))["choices"][0]["logprobs"]
    assert found.keys() == {"text_offset", "token_logprobs", "tokens", "top_logprobs"}
    assert all(2 <= len(table) <= 3 for table in found["top_logprobs"])


async def echo(probe: Probe) -> None:
    assert await probe.text(echo=True) == "HiHello world"
    assert await probe.text(echo=True, max_tokens=0) == "Hi"
    found = (await probe.ask(echo=True, logprobs=1, max_tokens=1))["choices"][0]["logprobs"]
    assert len(found["tokens"]) == len(prompt_ids(probe)) + 1
    assert found["token_logprobs"][0] is None and found["token_logprobs"][1] is not None


async def best_of(probe: Probe) -> None:
    assert len((await probe.ask(best_of=2, n=2))["choices"]) == 2
    assert len((await probe.ask(best_of=1))["choices"]) == 1


async def tokenize_prompt(probe: Probe) -> None:
    answer = await probe.ask(prompt="Hi there")
    ids = probe.front.tokenizer.encode("Hi there")
    assert answer == {
        "count": len(ids),
        "max_model_len": 128,
        "tokens": ids,
        "token_strs": None,
    }


async def tokenize_chat(probe: Probe) -> None:
    answer = await probe.ask(messages=HI)
    assert answer["tokens"] == probe.front.tokenizer.apply_chat_template(HI)
    more = await probe.ask(messages=HI, add_generation_prompt=False)
    assert more["count"] < answer["count"]


async def tokenize_special(probe: Probe) -> None:
    without = await probe.ask(prompt="Hi", add_special_tokens=False)
    assert (await probe.ask(prompt="Hi"))["tokens"] == [0, *without["tokens"]]


async def token_strs(probe: Probe) -> None:
    answer = await probe.ask(prompt="Hi", return_token_strs=True)
    assert answer["token_strs"] == ["<|bos|>", "H", "i"]


async def tokenize_tools(probe: Probe) -> None:
    tools = [{"type": "function", "function": {"name": "look_up"}}]
    asked = {"messages": HI, "chat_template": DOCUMENTS_TEMPLATE}
    answer = await probe.ask(**asked, tools=tools, chat_template_kwargs={"shout": True})
    text = probe.front.tokenizer.decode(answer["tokens"])
    assert text == "user> Hi look_upLOUD"


async def detokenize(probe: Probe) -> None:
    ids = probe.front.tokenizer.encode("Hi there")
    assert (await probe.ask(tokens=ids)) == {"prompt": "<|bos|>Hi there"}


TEXTS = [
    Case(
        "prompt",
        "a text, up to 64 texts, ids, or up to 64 lists of ids; none empty",
        "a choice each",
        prompts,
        [None, [], [[]], ["a", 1], ["a", [1]], [10**6], [-1], ["a"] * 65, 5],
        ONLY,
    ),
    Case(
        *("max_tokens (default)", "null is 16 in the API; absent is 16", "16 tokens"),
        max_tokens,
        (),
        ONLY,
    ),
    Case("logprobs", "0 to 20", "the legacy table", logprobs, [-1, 21], ONLY),
    Case(
        *("echo", "boolean; max_tokens may then be 0", "the prompt goes before the text"),
        echo,
        ["x"],
        ONLY,
    ),
    Case("best_of", "n", "none", best_of, [3, {"best_of": 1, "n": 2}], ONLY),
    not_supported("suffix", "b", ONLY),
    not_supported("prompt_embeds", "b", ONLY),
]
TOKENS = [
    Case(
        *("prompt", "a text; or messages", "its ids, their count, the context's length"),
        tokenize_prompt,
        [None, {"prompt": "a", "messages": HI}, 5],
        SPLIT,
    ),
    Case(
        *("messages", "as for chat", "the ids of the templated chat"),
        tokenize_chat,
        [{"messages": []}, {"messages": [{"role": "x"}]}],
        SPLIT,
    ),
    Case(
        *("add_special_tokens", "boolean", "whether special tokens are added"),
        tokenize_special,
        [{"add_special_tokens": 1, "prompt": "a"}],
        SPLIT,
    ),
    Case("return_token_strs", "boolean", "`token_strs`", token_strs, ["x"], SPLIT),
    Case(
        "tools",
        "up to 1024, with messages; chat_template_kwargs, documents and chat_template as for chat",
        "variables of the template",
        tokenize_tools,
        [{"tools": "x", "messages": HI}],
        SPLIT,
        config=TRUST,
    ),
]
DETOKENS = [
    Case("tokens", "up to 2^22 ids", "their text", detokenize, [[-1], [10**6], "x", None], JOIN)
]
