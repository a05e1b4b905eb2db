"""What an answer repeats of its prompt: text, where each token stands in it, the last message."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from octavo.services.frontend.generation import Generation
from octavo.services.frontend.logprobs import text_offsets
from octavo.services.frontend.schema import ChatRequest, GenerationRequest
from octavo.shared.text.tokenizer import Tokenizer


class PromptReader:
    """`return_prompt_text` and `return_token_offsets` of one request, by choice."""

    def __init__(
        self, request: GenerationRequest, generation: Generation, tokenizer: Tokenizer
    ) -> None:
        self._request = request
        self._generation = generation
        self._tokenizer = tokenizer

    def text(self, index: int) -> str | UnsetType:
        """All of the prompt, special tokens too."""
        return self._text(index) if self._request.return_prompt_text else UNSET

    def offsets(self, index: int) -> list[tuple[int, int]] | UnsetType:
        """(start, end) of each prompt token, in characters of that text."""
        if not self._request.return_token_offsets:
            return UNSET
        ids = self._generation.prompt(index).ids
        starts = text_offsets(self._tokenizer, ids, skip_special=False)
        return list(zip(starts, [*starts[1:], len(self._text(index))], strict=True))

    def _text(self, index: int) -> str:
        detokenizer = self._tokenizer.detokenizer(skip_special_tokens=False)
        parts = [detokenizer.push(i) for i in self._generation.prompt(index).ids]
        return "".join([*parts, detokenizer.flush()])


def echoed_message(request: ChatRequest) -> str:
    """What `echo` puts before a chat's answer: the last message, where the model continues it."""
    last = request.messages[-1] if request.messages else None
    if not request.echo or last is None or last.role != "assistant":
        return ""
    if isinstance(last.content, list):
        return "\n".join(part.text or "" for part in last.content)
    return last.content or ""
