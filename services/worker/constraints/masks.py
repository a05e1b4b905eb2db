"""Bits over the vocabulary: bit `i % 32` of word `i // 32` stands for id i, 1 is allowed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from octavo.shared.grammar.matcher import Masks, mask_words


def mask_of(token_ids: Iterable[int], vocab_size: int) -> Masks:
    """int32[words] that allows these ids and no others. Ids that the model has not are left out."""
    ids = np.fromiter(token_ids, np.int64)
    ids = ids[ids < vocab_size]
    words = np.zeros(mask_words(vocab_size), np.uint32)
    np.bitwise_or.at(words, ids // 32, np.left_shift(1, ids % 32).astype(np.uint32))
    return words.view(np.int32)


def allow_only(mask: Masks, token_id: int) -> None:
    """Keep the one id, whether or not the mask allowed it."""
    mask.fill(0)
    mask.view(np.uint32)[token_id // 32] = np.uint32(1 << (token_id % 32))


def allow(mask: Masks, token_id: int) -> None:
    mask.view(np.uint32)[token_id // 32] |= np.uint32(1 << (token_id % 32))


def ban(mask: Masks, token_id: int) -> None:
    mask.view(np.uint32)[token_id // 32] &= np.uint32(~(1 << (token_id % 32)) & 0xFFFFFFFF)
