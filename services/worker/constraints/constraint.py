"""Constraint: what one running request may say next, as a mask over the vocabulary."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from octavo.services.worker.constraints.bad_words import BadWords
from octavo.services.worker.constraints.masks import allow, allow_only, mask_of
from octavo.services.worker.constraints.reasoning import Reasoning
from octavo.shared.grammar.matcher import Masks, Matcher
from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.sampling import SamplingParams

log = logging.getLogger(__name__)

MatcherOf = Callable[[GrammarSpec], Matcher]


class Constraint:
    """Bans of several kinds meet here, the grammar's first.

    A finished grammar leaves nothing but the end, whatever else is asked for. While a grammar
    waits for the end of reasoning, the output cannot end. `min_tokens` bans stop ids only where
    something else is left. `min_len`: length before which it does.
    """

    def __init__(
        self, params: SamplingParams, vocab_size: int, min_len: int, matcher_of: MatcherOf
    ) -> None:
        self.min_len = min_len
        self._broken = False
        self.num_long = 0
        """Masks in a row that `patience` has found to be long."""
        self._grammar = None if params.grammar is None else matcher_of(params.grammar)
        self._reasoning = Reasoning(
            params.reasoning_begin_ids, params.reasoning_end_ids, params.thinking_token_budget
        )
        self._bad_words = BadWords(params.bad_words_ids) if params.bad_words_ids else None
        self._allowed: Masks | None = None
        if params.allowed_token_ids is not None:
            self._allowed = mask_of(params.allowed_token_ids, vocab_size)
        self._not_eos = ~mask_of(params.eos_token_ids, vocab_size)
        self._not_stop = ~mask_of(params.stop_ids, vocab_size)

    @property
    def matcher(self) -> Matcher | None:
        """Whose mask the next id must fit; None: no grammar holds here."""
        return None if self._reasoning.running else self._grammar

    def accept(self, token_id: int) -> Matcher | None:
        """Note an id that was said; the matcher, if one is returned, has yet to take it in."""
        matcher = self.matcher
        self._reasoning.accept(token_id)
        if self._reasoning.running:
            matcher = None  # the id has begun it
        if self._bad_words is not None:
            self._bad_words.accept(token_id)
        return matcher

    def replay(self, token_ids: Sequence[int]) -> None:
        """Take in an output that was said before."""
        for token_id in token_ids:
            if (matcher := self.accept(token_id)) is not None:
                matcher.accept([token_id])

    @contextlib.contextmanager
    def boundary(self) -> Iterator[None]:
        """What goes wrong inside leaves its request, and nobody else's, with nothing to say."""
        try:
            yield
        except Exception:
            log.exception("a constraint failed")
            self._broken = True

    def give_up(self, why: str) -> None:
        log.warning("a constraint is given up: %s", why)
        self._broken = True

    def leaves_any(self, mask: Masks, length: int) -> bool:
        """`narrow`, inside the boundary."""
        can_go_on = False
        with self.boundary():
            can_go_on = self.narrow(mask, length)
        return can_go_on and not self._broken

    def narrow(self, mask: Masks, length: int) -> bool:
        """Narrow int32[words], which the matcher has filled; `length`: of the sequence so far.

        False: nothing can follow, and not because all has been said.
        """
        matcher = self.matcher
        if matcher is not None and matcher.is_stopped:
            return matcher.failed is None
        if self._reasoning.may_begin is not None:
            allow(mask, self._reasoning.may_begin)
        if (forced := self._reasoning.forced) is not None:
            allow_only(mask, forced)
            return True
        if self._grammar is not None and matcher is None:
            mask &= self._not_eos
        if self._allowed is not None:
            mask &= self._allowed
        if self._bad_words is not None:
            self._bad_words.narrow(mask)
        if length < self.min_len:
            self._keep_going(mask)
        return bool(mask.any())

    def _keep_going(self, mask: Masks) -> None:
        others = mask & self._not_stop
        if others.any():
            np.copyto(mask, others)
