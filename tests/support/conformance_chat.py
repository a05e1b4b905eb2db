"""Conformance cases of what only chat requests have."""

from __future__ import annotations

from typing import Any

from conformance import CHAT, HEADER, Case, Probe, ignored, not_supported
from conformance_generation import prompt_ids

ONLY = (CHAT,)
ASSISTANT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well, "}]
DOCUMENTS_TEMPLATE = (
    "{% for d in documents or [] %}{{ d.title }}: {{ d.text }}. {% endfor %}"
    "{% for m in messages %}{{ m.role }}> {{ m.content }} {% endfor %}"
    "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}"
    "{% if shout %}LOUD{% endif %}"
)


async def prompt(probe: Probe, **fields: Any) -> str:
    """The text of the prompt that went to the engine."""
    await probe.ask(**fields)
    return probe.front.tokenizer.decode(prompt_ids(probe), skip_special_tokens=False)


async def messages(probe: Probe) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    text = await prompt(probe, messages=[{"role": "user", "content": parts}])
    assert "<|im_start|>user\none\ntwo<|im_end|>" in text


async def max_completion_tokens(probe: Probe) -> None:
    await probe.ask(max_completion_tokens=3, max_tokens=9)
    assert probe.submit.sampling.max_tokens == 3


async def logprobs(probe: Probe) -> None:
    choice = (await probe.ask(logprobs=True))["choices"][0]
    first = choice["logprobs"]["content"][0]
    assert first.keys() == {"token", "logprob", "bytes", "top_logprobs"}
    assert first["top_logprobs"] == []
    assert (await probe.ask(logprobs=False))["choices"][0]["logprobs"] is None


async def top_logprobs(probe: Probe) -> None:
    choice = (await probe.ask(logprobs=True, top_logprobs=2))["choices"][0]
    assert all(len(one["top_logprobs"]) == 2 for one in choice["logprobs"]["content"])


async def echo(probe: Probe) -> None:
    assert await probe.text(messages=ASSISTANT, echo=True) == "Well, Hello world"
    assert await probe.text(echo=True) == "Hello world"
    first, *_ = await probe.stream(messages=ASSISTANT, echo=True, n=2)
    assert first["choices"][0]["delta"]["content"].startswith("Well, ")


async def generation_prompt(probe: Probe) -> None:
    end = "<|im_start|>assistant\n"
    assert (await prompt(probe)).endswith(end)
    assert not (await prompt(probe, add_generation_prompt=False)).endswith(end)


async def continued(probe: Probe) -> None:
    text = await prompt(probe, messages=ASSISTANT, continue_final_message=True)
    assert text.endswith("<|im_start|>assistant\nWell, ")


async def template_kwargs(probe: Probe) -> None:
    assert "LOUD" in await prompt(probe, chat_template_kwargs={"shout": True})
    unknown = {"nobody_knows": True}
    assert await prompt(probe) == await prompt(probe, chat_template_kwargs=unknown)
    response = await probe.post(chat_template_kwargs={"tokenize": False})
    assert response.json()["error"]["param"] == "chat_template_kwargs"


async def chat_template(probe: Probe) -> None:
    assert await prompt(probe, chat_template=DOCUMENTS_TEMPLATE) == "user> Hi "
    for bad in ("{% if %}", "{{ ''.__class__.__mro__ }}{{ raise_exception('no') }}"):
        response = await probe.post(chat_template=bad)
        assert response.status_code == 400


async def chat_template_untrusted(probe: Probe) -> None:
    response = await probe.post(chat_template="x")
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "chat_template")
    assert "--trust-request-chat-template" in error["message"]


async def documents(probe: Probe) -> None:
    given = [{"title": "Sky", "text": "blue"}]
    text = await prompt(probe, documents=given, chat_template=DOCUMENTS_TEMPLATE)
    assert text == "Sky: blue. user> Hi "


async def reasoning_effort(probe: Probe) -> None:
    template = "{{ reasoning_effort }}"
    assert await prompt(probe, reasoning_effort="high", chat_template=template) == "high"


async def strict(probe: Probe) -> None:
    response = await probe.post(nobody_knows=1)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "unknown_field")
    assert (await probe.post(metadata={})).headers[HEADER] == "metadata"


TRUST = {"trust_request_chat_template": True}
CASES = [
    Case(
        "messages",
        "1 to 4096; roles system, developer, user, assistant, tool, function",
        "through the template",
        messages,
        [
            [],
            None,
            [{"role": "wizard", "content": "x"}],
            [{"role": "user", "content": [{"type": "image_url"}]}],
            [{"role": "user", "content": "x"}] * 4097,
        ],
        ONLY,
    ),
    Case(
        *("max_completion_tokens", "1 to what the context leaves", "goes before max_tokens"),
        max_completion_tokens,
        [10**30],
        ONLY,
    ),
    Case("logprobs", "boolean", "`logprobs.content`, an entry a token", logprobs, [1], ONLY),
    Case(
        *("top_logprobs", "0 to 20; with logprobs", "the most likely tokens of each entry"),
        top_logprobs,
        [
            {"top_logprobs": 21, "logprobs": True},
            {"top_logprobs": 2, "logprobs": False},
            {"top_logprobs": -1, "logprobs": True},
        ],
        ONLY,
    ),
    Case(
        *("echo", "boolean", "the assistant's last message goes before the answer"),
        echo,
        ["x"],
        ONLY,
    ),
    Case(
        *("add_generation_prompt", "boolean", "whether the template opens an answer"),
        generation_prompt,
        ["x"],
        ONLY,
    ),
    Case(
        *("continue_final_message", "boolean", "the last message is left open"),
        continued,
        [{"continue_final_message": True, "add_generation_prompt": True}],
        ONLY,
    ),
    Case(
        *(
            "chat_template_kwargs",
            "up to 64 scalars by name",
            "variables of the template; others are ignored",
        ),
        template_kwargs,
        [{"messages": "x"}, {"x": [1]}, {f"x{i}": 1 for i in range(65)}],
        ONLY,
    ),
    Case(
        "chat_template",
        "up to 65,536 characters, with --trust-request-chat-template",
        "in the place of the model's",
        chat_template,
        ["{% if %}", "x" * 65537],
        ONLY,
        config=TRUST,
    ),
    Case(
        *("chat_template (not trusted)", "null", "refused with 400: names the flag"),
        chat_template_untrusted,
        (),
        ONLY,
    ),
    Case(
        *("documents", "up to 256 objects of texts", "a variable of the template"),
        documents,
        [[{"a": 1}], [{}] * 257, "x"],
        ONLY,
        config=TRUST,
    ),
    Case(
        *(
            "reasoning_effort",
            "none, minimal, low, medium, high, xhigh, max",
            "a variable of the template",
        ),
        reasoning_effort,
        ["x", 3],
        ONLY,
        config=TRUST,
    ),
    Case(
        *("any unknown field (--strict-requests)", "-", "refused with 400: names it"),
        strict,
        (),
        ONLY,
        config={"strict_requests": True},
    ),
    *(
        not_supported(name, value, ONLY)
        for name, value in {
            "functions": [{}],
            "function_call": "auto",
            "audio": {"voice": "x"},
            "web_search_options": {"a": 1},
            "mm_processor_kwargs": {"a": 1},
            "media_io_kwargs": {"a": 1},
            "mm_payload": {"a": 1},
        }.items()
    ),
    ignored("modalities", ["text"], ONLY),
    ignored("verbosity", "low", ONLY),
]
