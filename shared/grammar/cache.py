"""Compiled grammars, kept by bytes, in the process where matchers run."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from llguidance import LLMatcher, LLTokenizer

from octavo.shared.grammar.compiling import compile_grammar
from octavo.shared.grammar.matcher import Matcher
from octavo.shared.grammar.spec import GrammarSpec, compiled_bytes

CACHE_BYTES = 64 << 20
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteCache(Generic[K, V]):
    """Least recently used entries go first; what is larger than the whole is not kept."""

    def __init__(self, max_bytes: int, cost: Callable[[K, V], int]) -> None:
        self._max_bytes = max_bytes
        self._cost = cost
        self._entries: OrderedDict[K, V] = OrderedDict()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        if (value := self._entries.get(key)) is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        if key in self._entries:
            self.num_bytes -= self._cost(key, self._entries.pop(key))
        self._entries[key] = value
        self.num_bytes += self._cost(key, value)
        while self.num_bytes > self._max_bytes:
            self.num_bytes -= self._cost(*self._entries.popitem(last=False))


class GrammarCache:
    """Makes matchers. Safe to call from several threads; compiling happens in one of its own.

    Specs must have been checked (`services/grammar`): then compiling ends, and well.
    """

    def __init__(self, vocabulary: Callable[[], LLTokenizer], max_bytes: int = CACHE_BYTES) -> None:
        """`vocabulary` is called once, by the thread that compiles, with the first grammar."""
        self._vocabulary = functools.cache(vocabulary)
        self._lock = threading.Lock()
        self._compiled: ByteCache[GrammarSpec, LLMatcher] = ByteCache(
            max_bytes, lambda spec, core: compiled_bytes(spec)
        )
        self._pending: dict[GrammarSpec, Future[LLMatcher]] = {}
        self._compiler = ThreadPoolExecutor(1, "grammar")

    def start(self, spec: GrammarSpec) -> Future[LLMatcher]:
        """Have it compiled; done at once where it is known. The result is for `matcher_of`."""
        with self._lock:
            if (core := self._compiled.get(spec)) is not None:
                done: Future[LLMatcher] = Future()
                done.set_result(core)
                return done
            if (pending := self._pending.get(spec)) is None:
                pending = self._compiler.submit(self._compile, spec)
                self._pending[spec] = pending
            return pending

    def matcher(self, spec: GrammarSpec, token_ids: Sequence[int] = ()) -> Matcher:
        """A matcher that has accepted `token_ids`: none for a fresh request, what was said for one
        that goes on after a crash. Microseconds where the grammar is known; otherwise waits.

        Raises GrammarError. `Matcher.failed` tells when the ids do not fit.
        """
        return matcher_of(self.start(spec).result(), token_ids)

    def close(self) -> None:
        self._compiler.shutdown(wait=False, cancel_futures=True)

    def _compile(self, spec: GrammarSpec) -> LLMatcher:
        try:
            core = compile_grammar(spec, self._vocabulary())
            with self._lock:
                self._compiled.put(spec, core)
            return core
        finally:
            with self._lock:
                del self._pending[spec]


def matcher_of(core: LLMatcher, token_ids: Sequence[int] = ()) -> Matcher:
    """A copy of a compiled grammar, moved on. `core` itself stays at its start."""
    matcher = Matcher(core.deep_copy())
    matcher.accept(token_ids)
    return matcher
