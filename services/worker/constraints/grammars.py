"""Grammars: compiled in a thread before a request that needs one may take a slot.

The scheduler asks for a grammar, waits until every rank has it, and says when nobody needs it any
more. In between it is kept whatever its size, so a matcher never waits for a compilation.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from llguidance import LLMatcher, LLTokenizer

from octavo.shared.config import WORKER_SOCKET
from octavo.shared.errors import OctavoError
from octavo.shared.grammar.cache import GrammarCache, matcher_of
from octavo.shared.grammar.compiling import GrammarError, vocabulary
from octavo.shared.grammar.helper import HelperConfig
from octavo.shared.grammar.matcher import Matcher
from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.log import frames
from octavo.shared.steps import (
    DropGrammar,
    GrammarReady,
    PrepareGrammar,
    RowsRefused,
    ToWorker,
)
from octavo.shared.text.tokenizer import Tokenizer
from octavo.shared.transport import Spoke

log = logging.getLogger(__name__)
SWITCH_SECONDS = 2e-4
Report = Callable[[GrammarReady], None]


class Grammars:
    """`report` is called from any thread, once for each grammar that was asked for."""

    def __init__(self, config: HelperConfig, rank: int = 0, report: Report | None = None) -> None:
        self._config = config
        self._rank = rank
        self._report = report
        self._cache = GrammarCache(self._vocabulary)
        self._specs: dict[int, GrammarSpec] = {}
        self._compiled: dict[GrammarSpec, Future[LLMatcher]] = {}

    def prepare(self, order: PrepareGrammar) -> None:
        """Returns at once."""
        self._specs[order.number] = order.spec
        compiled = self._cache.start(order.spec)
        self._compiled[order.spec] = compiled
        compiled.add_done_callback(lambda done: self._answer(order.number, done))

    def drop(self, order: DropGrammar) -> None:
        if (spec := self._specs.pop(order.number, None)) is not None:
            del self._compiled[spec]

    def forget(self) -> None:
        """Drop all: another scheduler will ask for what it needs."""
        self._specs.clear()
        self._compiled.clear()

    def matcher(self, spec: GrammarSpec) -> Matcher:
        """A fresh one, of a grammar that has been reported as ready."""
        return matcher_of(self._compiled[spec].result())

    def _answer(self, number: int, compiled: Future[LLMatcher]) -> None:
        if self._report is None or compiled.cancelled():
            return
        error = compiled.exception()
        if error is not None and not isinstance(error, GrammarError | OctavoError):
            log.error("a grammar could not be compiled\n%s", frames(error))
        self._report(GrammarReady(rank=self._rank, number=number, failed=error is not None))

    def _vocabulary(self) -> LLTokenizer:
        """Built with the first grammar, by its thread: seconds for a large vocabulary, in which
        the steps must go on."""
        config, usual = self._config, sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            tokenizer = Tokenizer.load(Path(config.tokenizer))
            return vocabulary(tokenizer, config.vocab_size, config.eos_token_ids)
        finally:
            sys.setswitchinterval(usual)


class Reporter:
    """Tells the scheduler of grammars and rows, from any thread, on a socket of its own."""

    def __init__(self, directory: Path, rank: int) -> None:
        self._spoke: Spoke[GrammarReady | RowsRefused, object] = Spoke(
            directory, WORKER_SOCKET, f"reports-{rank}".encode(), ToWorker
        )
        self._lock = threading.Lock()

    def __call__(self, report: GrammarReady | RowsRefused) -> None:
        with self._lock:
            self._spoke.send(report)
