"""A short output made up for a grammar, to see what its masks take before it is in a batch."""

from __future__ import annotations

import time

import numpy as np
from llguidance import LLMatcher

from octavo.shared.grammar.compiling import GrammarError, brief
from octavo.shared.grammar.matcher import (
    LONG_MASK,
    MOST_LONG_MASKS,
    Masks,
    Matcher,
    mask_words,
)

TOKENS = 16
TOO_SLOW = "each token of its outputs would hold up everybody's"


def rehearse(core: LLMatcher, vocab_size: int) -> None:
    """Raises GrammarError for a grammar that costs the others too much, or runs into a limit."""
    matcher, mask = Matcher(core.deep_copy()), np.zeros(mask_words(vocab_size), np.int32)
    num_long = 0
    for _ in range(TOKENS):
        began = time.thread_time()
        matcher.fill_mask(mask)
        num_long += time.thread_time() - began > LONG_MASK
        if matcher.is_stopped:
            break
        matcher.accept([_one_of(mask)])
    if matcher.core.is_error():
        raise GrammarError(brief(matcher.core.get_error()))
    if num_long >= MOST_LONG_MASKS:
        raise GrammarError(TOO_SLOW)


def _one_of(mask: Masks) -> int:
    allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
    return int(allowed[len(allowed) // 2])
