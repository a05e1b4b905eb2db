"""Prompts: every form that a request may take becomes token ids.

Long texts are tokenized in a thread (the tokenizers library lets go of the GIL), so one client's
book does not hold up the others' streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from octavo.services.frontend.schema import (
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    ContentPart,
    GenerationRequest,
    TokenizeRequest,
)
from octavo.services.frontend.service import Service
from octavo.shared.config import ModelInfo
from octavo.shared.errors import InvalidRequest
from octavo.shared.text.chat_template import OWN_NAMES
from octavo.shared.text.template_job import TemplateJob
from octavo.shared.text.tokenizer import Tokenizer

MAX_PROMPTS = 64
INLINE_CHARS = 4096
"""Texts up to this length are handled on the event loop: well under a millisecond."""
NOT_KWARGS = OWN_NAMES | {"chat_template", "tokenize"}
"""Fields of a request, or of nobody's business."""

T = TypeVar("T")


@dataclass(frozen=True)
class Prompt:
    ids: list[int]
    text: str | None = None
    """As the client wrote it; None where it sent ids."""


async def off_loop(num_chars: int, work: Callable[[], T]) -> T:
    """Do `work` here if it is small, else in a thread."""
    return work() if num_chars <= INLINE_CHARS else await asyncio.to_thread(work)


async def completion_prompts(
    request: CompletionRequest, tokenizer: Tokenizer, model: ModelInfo
) -> list[Prompt]:
    """The prompts of a text completion. Raises InvalidRequest (param `prompt`)."""
    given = prompt_list(request.prompt, "prompt")
    if not 0 < len(given) <= MAX_PROMPTS:
        raise _bad_prompt(f"prompt must hold 1 to {MAX_PROMPTS} prompts, got {len(given)}.")
    special = request.add_special_tokens is not False

    def encode() -> list[Prompt]:
        return [
            Prompt(tokenizer.encode(one, special), one) if isinstance(one, str) else Prompt(one)
            for one in given
        ]

    prompts = await off_loop(sum(map(len, given)), encode)
    return [_checked(prompt, request, model) for prompt in prompts]


def prompt_list(
    prompt: str | list[str | int | list[int]] | None, param: str
) -> Sequence[str | list[int]]:
    """A text, texts, ids or lists of ids, as several. Raises InvalidRequest for a mixture."""
    if prompt is None:
        raise InvalidRequest(f"{param} is missing.", param=param)
    if isinstance(prompt, str):
        return [prompt]
    ids = [one for one in prompt if isinstance(one, int)]
    if ids and len(ids) == len(prompt):
        return [ids]
    several = [one for one in prompt if not isinstance(one, int)]
    if ids or len({type(one) for one in several}) > 1:
        raise InvalidRequest(f"{param} mixes texts and token ids.", param=param)
    return several


def _checked(prompt: Prompt, request: GenerationRequest, model: ModelInfo) -> Prompt:
    if not prompt.ids:
        raise _bad_prompt("The prompt is empty.")
    check_ids(prompt.ids, model.vocab_size, "prompt")  # a tokenizer may know more than the model
    if request.truncate_prompt_tokens is None:
        return prompt
    num_kept = _num_kept(request.truncate_prompt_tokens, model)
    right = request.truncation_side == "right"
    kept = prompt.ids[:num_kept] if right else prompt.ids[-num_kept:]
    return prompt if len(kept) == len(prompt.ids) else Prompt(kept)


def _num_kept(truncate: int, model: ModelInfo) -> int:
    """truncate_prompt_tokens k keeps k tokens; -1 as many as leave room for one more."""
    if truncate == -1:
        return model.max_model_len - 1
    if not 1 <= truncate <= model.max_model_len:
        raise InvalidRequest(
            f"truncate_prompt_tokens must be -1 or between 1 and {model.max_model_len}.",
            param="truncate_prompt_tokens",
        )
    return truncate


def check_ids(ids: Sequence[int], vocab_size: int, param: str) -> None:
    """Raise InvalidRequest for ids outside the vocabulary."""
    if ids and not (min(ids) >= 0 and max(ids) < vocab_size):
        raise InvalidRequest(
            f"{param} holds token ids outside the vocabulary (0 to {vocab_size - 1}).", param=param
        )


async def chat_prompt(
    request: ChatRequest, service: Service, tools: list[Any] | None = None
) -> Prompt:
    """The prompt of a chat, with `tools` as templates know them. Raises InvalidRequest (param
    `messages` or the template option), or as `TemplateRenderer.render`."""
    variables = {"reasoning_effort": request.reasoning_effort, "tools": tools}
    ids = await chat_ids(request, service, variables)
    if not ids:
        raise InvalidRequest("The messages make an empty prompt.", param="messages")
    return _checked(Prompt(ids), request, service.model)


async def chat_ids(
    request: ChatRequest | TokenizeRequest, service: Service, variables: dict[str, Any]
) -> list[int]:
    """Render a chat and tokenize it; `variables` that are not None go to the template too."""
    if request.continue_final_message and request.add_generation_prompt:
        raise InvalidRequest(
            "continue_final_message and add_generation_prompt exclude each other.",
            param="continue_final_message",
        )
    given = request.messages or []
    options = {k: v for k, v in variables.items() if v is not None}
    options["documents"] = request.documents
    options["continue_final_message"] = bool(request.continue_final_message)
    options["add_generation_prompt"] = request.add_generation_prompt is not False
    job = TemplateJob(
        messages=[_template_message(message, i) for i, message in enumerate(given)],
        options=options,
        kwargs=_template_kwargs(request.chat_template_kwargs, service.tokenizer),
        template=_own_template(request, service.config.trust_request_chat_template),
    )
    text = await service.templates.render(job)
    # The template writes the special tokens itself, so more come only on request.
    special = bool(request.add_special_tokens)
    return await off_loop(len(text), lambda: service.tokenizer.encode(text, special))


def _own_template(request: ChatRequest | TokenizeRequest, trusted: bool) -> str | None:
    """The request's own template, where the operator lets requests bring one."""
    if request.chat_template is not None and not trusted:
        raise InvalidRequest(
            "This server takes no chat_template from requests "
            "(its operator can allow it: --trust-request-chat-template).",
            param="chat_template",
        )
    return request.chat_template


def _template_kwargs(kwargs: dict[str, Any] | None, tokenizer: Tokenizer) -> dict[str, Any]:
    """The client's own template variables; none may take the place of ours."""
    for name in kwargs or {}:
        if name in NOT_KWARGS or name in tokenizer.special_tokens:
            raise InvalidRequest(
                f"chat_template_kwargs may not set {name}.", param="chat_template_kwargs"
            )
    return kwargs or {}


def _template_message(message: ChatMessage, index: int) -> dict[str, Any]:
    """A message as templates know it: `content` one text, absent fields absent."""
    fields: dict[str, Any] = {"role": message.role, "content": _content(message.content, index)}
    for name in ("name", "tool_call_id"):
        if (value := getattr(message, name)) is not None:
            fields[name] = value
    if message.tool_calls:
        fields["tool_calls"] = [_tool_call(call, index) for call in message.tool_calls]
    reasoning = message.reasoning or message.reasoning_content
    if reasoning is not None:
        fields |= {"reasoning": reasoning, "reasoning_content": reasoning}
    return fields


def _content(content: str | list[ContentPart] | None, index: int) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for i, part in enumerate(content):
        if part.type != "text" or part.text is None:
            raise InvalidRequest(
                "Only content parts of type text are supported.",
                param=f"messages[{index}].content[{i}]",
            )
    return "\n".join(part.text or "" for part in content)


def _tool_call(call: dict[str, Any], index: int) -> dict[str, Any]:
    """Templates want a call's arguments as an object; the API writes them as JSON text."""
    function = call.get("function")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(arguments, str):
        return call
    try:
        parsed = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(
            "A tool call's arguments are not JSON.", param=f"messages[{index}].tool_calls"
        ) from error
    return call | {"function": {**function, "arguments": parsed}} if function else call


def _bad_prompt(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="prompt")
