"""The forms in which a caller may give prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from octavo.shared.errors import ContextTooLong, InvalidRequest
from octavo.shared.text.tokenizer import Tokenizer

PromptForm: TypeAlias = "str | Sequence[int] | Mapping[str, Any]"
"""Text, token ids, {"prompt": text} or {"prompt_token_ids": ids}."""


@dataclass(frozen=True)
class Prompt:
    text: str | None
    token_ids: list[int]


def read_prompts(prompts: Any, tokenizer: Tokenizer) -> list[Prompt]:
    """One prompt or a list of them. Raises InvalidRequest for anything else."""
    alone = isinstance(prompts, str | Mapping) or _is_ids(prompts)
    return [read_prompt(prompt, tokenizer) for prompt in ([prompts] if alone else prompts)]


def read_prompt(prompt: Any, tokenizer: Tokenizer) -> Prompt:
    match prompt:
        case str():
            return Prompt(prompt, tokenizer.encode(prompt))
        case {"prompt_token_ids": ids} if _is_ids(ids):
            text = prompt.get("prompt")
            return Prompt(text if isinstance(text, str) else None, list(ids))
        case {"prompt": str(text)}:
            return Prompt(text, tokenizer.encode(text))
    if _is_ids(prompt):
        return Prompt(None, list(prompt))
    raise InvalidRequest(
        'A prompt is a string, a list of token ids, {"prompt": ...} or {"prompt_token_ids": ...}.',
        param="prompts",
    )


def read_message(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A chat message with `content` as one text: parts of type text are joined by newlines."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    parts = [part.get("text") for part in content if part.get("type") == "text"]
    if len(parts) < len(content) or not all(isinstance(part, str) for part in parts):
        raise InvalidRequest("Only content parts of type text are supported.", param="messages")
    return {**message, "content": "\n".join(parts)}


def check_prompt(prompt: Prompt, vocab_size: int, max_model_len: int) -> None:
    """Raise for a prompt that no model run could take."""
    length = len(prompt.token_ids)
    if length >= max_model_len:
        raise ContextTooLong(
            f"The prompt has {length} tokens, but the model's context is {max_model_len}, one of "
            f"them for the output: it is {length - max_model_len + 1} too long.",
            param="prompts",
        )
    check_text(prompt.token_ids, vocab_size, max_model_len)


def check_text(ids: Sequence[int], vocab_size: int, max_model_len: int) -> None:
    """The same for what pools: there is no output that needs room."""
    if not ids:
        raise InvalidRequest("A prompt must hold at least one token.", param="prompts")
    if len(ids) > max_model_len:
        raise ContextTooLong(
            f"The prompt has {len(ids)} tokens, {len(ids) - max_model_len} more than the model's "
            f"context of {max_model_len}.",
            param="prompts",
        )
    if not 0 <= min(ids) <= max(ids) < vocab_size:
        raise InvalidRequest(
            f"A prompt's token ids must be between 0 and {vocab_size - 1}.", param="prompts"
        )


def _is_ids(value: Any) -> bool:
    """A non-empty sequence of integers. (An empty one is an empty list of prompts.)"""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        return False
    return len(value) > 0 and all(isinstance(item, int) for item in value)
