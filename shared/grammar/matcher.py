"""Matcher: where one output stands in its grammar. MaskBatch: the masks of many, in parallel.

A matcher's state is a function of (spec, accepted ids): after a crash it is rebuilt from them.
Each of a request's n sequences has a matcher of its own.

What the caller decides with it:

- A sequence ends as soon as `is_stopped`: the grammar is complete and nothing can follow. It
  neither waits for an EOS token nor lets `ignore_eos` or `min_tokens` keep it alive, for no other
  id is allowed any more. Where the grammar is complete but could go on, the mask allows the EOS
  ids beside the others, and bans that `min_tokens` puts on stop ids may be applied to it.
- Stop strings and `stop_token_ids` end the text wherever they occur, finished grammar or not.
- A matcher that `failed` (an id that the mask did not allow, or a limit of llguidance) allows
  nothing but EOS from then on; its request is to end with an error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from llguidance import LLExecutor, LLMatcher

from octavo.shared.grammar.compiling import brief

Masks = npt.NDArray[np.int32]
WORD_BITS = 32
LONG_MASK = 5e-3
"""Seconds of processor time; usual ones want less than 1e-3, with a vocabulary of 128,000 too."""
MOST_LONG_MASKS = 8
"""Of one output: it would hold up whoever is in a batch with it, at each token."""


def mask_words(vocab_size: int) -> int:
    """int32 words of one mask: bit `i % 32` of word `i // 32` stands for id i; 1 is allowed."""
    return -(-vocab_size // WORD_BITS)


class Matcher:
    """One thread at a time may use it."""

    def __init__(self, core: LLMatcher) -> None:
        """`core` is this matcher's own from now on."""
        self.core = core

    @property
    def is_stopped(self) -> bool:
        """Nothing but EOS can follow: the grammar is complete, or the matcher has failed."""
        return bool(self.core.is_stopped())

    @property
    def is_accepting(self) -> bool:
        """What was accepted is a whole text of the grammar."""
        return bool(self.core.is_accepting())

    @property
    def failed(self) -> str | None:
        """Why this matcher is of no use any more."""
        if self.core.is_error():
            return brief(self.core.get_error())
        if self.core.is_stopped() and not self.core.is_accepting():
            return "no text matches the grammar from here on"
        return None

    def fill_mask(self, row: Masks) -> None:
        """Write the mask of the next id into `row` int32[words]: contiguous, of the vocabulary's
        width. EOS ids are allowed exactly when the matcher accepts."""
        self.core.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)

    def accept(self, token_ids: Sequence[int]) -> bool:
        """Move on. False when one of the ids is not allowed: the matcher has failed then."""
        return bool(self.core.consume_tokens(list(token_ids)))

    def count_allowed(self, token_ids: Sequence[int]) -> int:
        """How many of the ids, from the first, could be accepted; moves nothing.
        Of a matcher that has stopped, none: not even EOS."""
        return int(self.core.validate_tokens(list(token_ids)))

    def rollback(self, count: int) -> bool:
        """Undo the last `count` ids, an EOS among them or not. False: that many are not there, or
        the matcher has failed."""
        return bool(self.core.rollback(count))

    def forced(self) -> list[int]:
        """Ids that must follow, as the tokenizer would write them; often none."""
        return list(self.core.compute_ff_tokens())

    def copy(self) -> Matcher:
        """A matcher in the same state, independent of this one."""
        return Matcher(self.core.deep_copy())


class MaskBatch:
    """Masks int32[rows, words] of a batch, filled by llguidance's own threads, without the GIL.

    The worker gives a pinned `buffer` and fills it while the device runs the forward pass whose
    logits the masks are for. A row without a matcher allows everything.
    """

    def __init__(
        self, rows: int, vocab_size: int, threads: int, buffer: Masks | None = None
    ) -> None:
        shape = (rows, mask_words(vocab_size))
        self.masks = np.empty(shape, np.int32) if buffer is None else buffer
        if self.masks.shape != shape or self.masks.dtype != np.int32:
            raise ValueError(f"the buffer must be int32{shape}")
        if not self.masks.flags.c_contiguous:
            raise ValueError("the buffer must be contiguous")
        self.masks.fill(-1)
        self._executor = LLExecutor(threads)

    def fill(self, matchers: Sequence[tuple[int, Matcher]]) -> None:
        """Fill the rows of (row, matcher) pairs, each row and each matcher at most once."""
        rows, words = self.masks.shape
        if any(not 0 <= row < rows for row, _ in matchers):
            raise ValueError("no such row")
        if matchers:
            self._executor.unsafe_compute_mask_ptr(
                [(matcher.core, row) for row, matcher in matchers],
                self.masks.ctypes.data,
                words * self.masks.itemsize,
                rows,
            )

    def accept(self, sampled: Sequence[tuple[Matcher, int]]) -> list[bool]:
        """One id for each matcher, in parallel; as `Matcher.accept`."""
        if not sampled:
            return []
        pairs = [(matcher.core, token_id) for matcher, token_id in sampled]
        return list(self._executor.consume_token_par(pairs))

    def release(self, row: int) -> None:
        """The row's request has no grammar, or is gone."""
        self.masks[row] = -1
