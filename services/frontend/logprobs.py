"""Logprobs in the forms that the API knows: chat, legacy completions, prompt."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.services.frontend.replies import (
    ChatLogprob,
    ChatLogprobs,
    CompletionLogprobs,
    PromptLogprob,
    PromptLogprobList,
    TopLogprob,
)
from octavo.shared.text.logprobs import TokenLogprob
from octavo.shared.text.tokenizer import Tokenizer


class LogprobWriter:
    """`k` alternatives a token; `as_ids` writes tokens as `token_id:17` (unambiguous)."""

    def __init__(self, tokenizer: Tokenizer, k: int, as_ids: bool = False) -> None:
        self._tokenizer = tokenizer
        self._k = k
        self._as_ids = as_ids

    def token(self, token_id: int) -> str:
        return f"token_id:{token_id}" if self._as_ids else self._tokenizer.token_text(token_id)

    def chat(self, entries: Sequence[TokenLogprob]) -> ChatLogprobs:
        return ChatLogprobs(
            content=[
                ChatLogprob(
                    token=self.token(entry.token_id),
                    logprob=entry.logprob,
                    bytes=list(self._tokenizer.id_to_bytes(entry.token_id)),
                    top_logprobs=[self._alternative(*top) for top in entry.top[: self._k]],
                )
                for entry in entries
            ]
        )

    def completion(
        self,
        token_ids: Sequence[int],
        entries: Sequence[TokenLogprob | None],
        offsets: Sequence[int],
    ) -> CompletionLogprobs:
        """The legacy form; an entry is None for the first token of an echoed prompt."""
        return CompletionLogprobs(
            text_offset=list(offsets),
            token_logprobs=[None if entry is None else entry.logprob for entry in entries],
            tokens=[self.token(token_id) for token_id in token_ids],
            top_logprobs=[None if entry is None else self._table(entry) for entry in entries],
        )

    def prompt(self, entries: Sequence[TokenLogprob | None]) -> PromptLogprobList:
        """vLLM's `prompt_logprobs`: by token id, the token itself and the k most likely."""
        return [None if entry is None else self._by_id(entry) for entry in entries]

    def _alternative(self, token_id: int, logprob: float) -> TopLogprob:
        return TopLogprob(
            token=self.token(token_id),
            logprob=logprob,
            bytes=list(self._tokenizer.id_to_bytes(token_id)),
        )

    def _table(self, entry: TokenLogprob) -> dict[str, float]:
        """Most likely first, then the token itself; of two that read alike the likelier stays."""
        table: dict[str, float] = {}
        for token_id, logprob in (*entry.top[: self._k], (entry.token_id, entry.logprob)):
            table.setdefault(self.token(token_id), logprob)
        return table

    def _by_id(self, entry: TokenLogprob) -> dict[int, PromptLogprob]:
        ranked = [(i, logprob, rank) for rank, (i, logprob) in enumerate(entry.top[: self._k], 1)]
        own = (entry.token_id, entry.logprob, entry.rank)
        return {
            token_id: PromptLogprob(
                logprob=logprob, rank=rank, decoded_token=self._tokenizer.token_text(token_id)
            )
            for token_id, logprob, rank in (own, *ranked)
        }


def text_offsets(tokenizer: Tokenizer, token_ids: Sequence[int], skip_special: bool) -> list[int]:
    """Where each token's text begins in the decoded sequence, in characters."""
    detokenizer = tokenizer.detokenizer(skip_special)
    offsets, position = [], 0
    for token_id in token_ids:
        offsets.append(position)
        position += len(detokenizer.push(token_id))
    return offsets
