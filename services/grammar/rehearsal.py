"""A short output made up for a grammar, to see what its masks take.

Usual grammars want less than a millisecond for a mask, with a vocabulary of 128,000 too. One that
wants 20, as `a{100000}` does, would hold up whoever is in a batch with it, at each token.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
from llguidance import LLMatcher

from octavo.shared.grammar.compiling import TOO_COMPLEX, GrammarError
from octavo.shared.grammar.matcher import Masks, Matcher, mask_words

TOKENS = 16
MASK_SECONDS = 5e-3
"""Of processor time. The first mask is left out: it has been computed with the grammar."""


def rehearse(core: LLMatcher, vocab_size: int) -> None:
    """Raises GrammarError for a grammar that costs the others too much, or runs into a limit."""
    matcher, mask = Matcher(core.deep_copy()), np.zeros(mask_words(vocab_size), np.int32)
    costs: list[float] = []
    while len(costs) < TOKENS and not matcher.is_stopped:
        began = time.thread_time()
        matcher.fill_mask(mask)
        costs.append(time.thread_time() - began)
        if mask.any():
            matcher.accept([_one_of(mask)])
    if matcher.core.is_error() or statistics.median(costs[1:] or [0.0]) > MASK_SECONDS:
        raise GrammarError(TOO_COMPLEX)


def _one_of(mask: Masks) -> int:
    allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
    return int(allowed[len(allowed) // 2])
