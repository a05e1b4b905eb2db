"""Log-probabilities as readers want them: one entry a token, out of the wire's columns."""

from __future__ import annotations

import msgspec

from octavo.shared.messages import Logprobs, unpack, unpack_floats

LOWEST = -9999.0
"""Stands for minus infinity, which JSON cannot write (vLLM's value)."""


class TokenLogprob(msgspec.Struct, frozen=True, gc=False):
    """The token at a position, its log-probability and 1-based rank, and the most likely ones."""

    token_id: int
    logprob: float
    rank: int
    top: tuple[tuple[int, float], ...]
    """(token id, log-probability), most likely first."""


def unpack_logprobs(values: Logprobs) -> list[TokenLogprob]:
    """One entry for each of the m positions, `top` as wide as the batch's largest k."""
    ids = unpack(values.token_ids).reshape(-1, values.width).tolist()
    floats = unpack_floats(values.logprobs).clip(min=LOWEST).reshape(-1, values.width).tolist()
    ranks = unpack(values.ranks).tolist()
    return [
        TokenLogprob(row[0], scores[0], rank, tuple(zip(row[1:], scores[1:], strict=True)))
        for row, scores, rank in zip(ids, floats, ranks, strict=True)
    ]
