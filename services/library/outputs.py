"""What `LLM.generate` returns, with vLLM's names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from octavo.shared.messages import FinishReason
from octavo.shared.text.logprobs import TokenLogprob
from octavo.shared.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Logprob:
    """One token's log-probability at a position."""

    logprob: float
    rank: int
    """1-based, over the whole vocabulary."""
    decoded_token: str


Position = dict[int, Logprob]
"""Token id -> its log-probability: the token that stands there, and the most likely ones."""


@dataclass
class CompletionOutput:
    """One of the `n` sequences generated for a prompt."""

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    """Sum over the sampled tokens; None where no logprobs were asked for."""
    logprobs: list[Position] | None
    finish_reason: FinishReason | None
    stop_reason: int | str | None
    """The stop string or stop token id that ended it; for finish_reason "error" the cause."""


@dataclass
class RequestOutput:
    """All that was generated for one prompt."""

    request_id: str
    prompt: str | None
    """None where the prompt was given as ids."""
    prompt_token_ids: list[int]
    prompt_logprobs: list[Position | None] | None
    """One entry a prompt token; the first has no log-probability."""
    outputs: list[CompletionOutput] = field(default_factory=list)
    finished: bool = False
    num_cached_tokens: int = 0
    """Prompt tokens whose KV cache was reused."""


def position(entry: TokenLogprob, k: int, tokenizer: Tokenizer) -> Position:
    """The sampled token and the `k` most likely ones as a dict, the sampled one first."""
    found = {entry.token_id: Logprob(entry.logprob, entry.rank, _text(entry.token_id, tokenizer))}
    for rank, (token_id, logprob) in enumerate(entry.top[:k], start=1):
        found.setdefault(token_id, Logprob(logprob, rank, _text(token_id, tokenizer)))
    return found


def positions(entries: Sequence[TokenLogprob], k: int, tokenizer: Tokenizer) -> list[Position]:
    return [position(entry, k, tokenizer) for entry in entries]


def _text(token_id: int, tokenizer: Tokenizer) -> str:
    return tokenizer.token_text(token_id)
