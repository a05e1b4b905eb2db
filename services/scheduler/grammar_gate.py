"""GrammarGate: a request waits here until every rank has compiled its grammar.

So no step ever waits for a compilation. Requests with the same grammar share it. The ranks keep
what is in use, for which there is a bound, and what was used lately.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from octavo.services.scheduler.request import Request
from octavo.shared.grammar.spec import GrammarSpec, compiled_bytes
from octavo.shared.steps import DropGrammar, PrepareGrammar

MAX_BYTES = 1 << 30
"""Of grammars that the ranks keep, by estimate; beyond it new ones wait."""
MAX_IDLE_BYTES = 64 << 20
"""Of those of them that nobody uses."""


@dataclass
class Grammar:
    """`users`: requests that have not ended; `waiting`: those of them that are at the gate."""

    number: int
    num_bytes: int
    ready: bool = False
    failed: bool = False
    users: set[Request] = field(default_factory=set)
    waiting: dict[Request, None] = field(default_factory=dict)


class GrammarGate:
    """`orders`: what the ranks are to be told, to be taken away by the caller."""

    def __init__(
        self,
        last_number: int = 0,
        max_bytes: int = MAX_BYTES,
        max_idle_bytes: int = MAX_IDLE_BYTES,
    ) -> None:
        self.orders: list[PrepareGrammar | DropGrammar] = []
        self._max_bytes, self._max_idle_bytes = max_bytes, max_idle_bytes
        self._used_bytes = self._idle_bytes = 0
        self._serial = last_number
        self._grammars: dict[GrammarSpec, Grammar] = {}
        self._specs: dict[int, GrammarSpec] = {}
        self._idle: dict[GrammarSpec, Grammar] = {}
        self._held: dict[Request, None] = {}

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._held) + sum(len(one.waiting) for one in self._grammars.values())

    def waiting(self) -> list[Request]:
        """These requests."""
        compiling = (one for grammar in self._grammars.values() for one in grammar.waiting)
        return [*self._held, *compiling]

    def has(self, request: Request) -> bool:
        """Whether the request waits here."""
        spec = request.sampling.grammar
        grammar = None if spec is None else self._grammars.get(spec)
        return request in self._held or (grammar is not None and request in grammar.waiting)

    def must_wait(self, request: Request) -> bool:
        """Take note of a new request; True: it waits here until `opened` returns it."""
        spec = request.sampling.grammar
        if spec is None:
            return False
        grammar = self._grammars.get(spec) or self._revive(spec) or self._prepare(spec)
        if grammar is None:
            self._held[request] = None
            return True
        grammar.users.add(request)
        if not grammar.ready:
            grammar.waiting[request] = None
        return not grammar.ready

    def opened(self, number: int, failed: bool = False) -> list[Request]:
        """All ranks have answered: the requests that wait no more."""
        spec = self._specs.get(number)
        if spec is None:
            return []  # dropped meanwhile
        grammar = self._grammars[spec]
        grammar.ready, grammar.failed = True, failed
        waiting, grammar.waiting = list(grammar.waiting), {}
        return waiting

    def replay(self) -> list[Request]:
        """New ranks, who know no grammar: the requests that wait here again, wherever they were."""
        self.orders.clear()
        self._specs.clear()
        self._idle.clear()
        self._idle_bytes = 0
        for spec, grammar in self._grammars.items():
            grammar.ready = grammar.failed = False
            grammar.waiting = dict.fromkeys(grammar.users)
            self._order(spec, grammar)
        return [request for grammar in self._grammars.values() for request in grammar.waiting]

    def leave(self, request: Request) -> list[Request]:
        """A request has ended, wherever it stood; the requests that wait no more because of it."""
        spec = request.sampling.grammar
        if spec is None:
            return []
        self._held.pop(request, None)
        grammar = self._grammars.get(spec)
        if grammar is not None and request in grammar.users:
            grammar.users.discard(request)
            grammar.waiting.pop(request, None)
            if not grammar.users:
                self._retire(spec, grammar)
                return self._let_in()
        return []

    def _revive(self, spec: GrammarSpec) -> Grammar | None:
        if (grammar := self._idle.pop(spec, None)) is not None:
            self._grammars[spec] = grammar
            self._idle_bytes -= grammar.num_bytes
            self._used_bytes += grammar.num_bytes
        return grammar

    def _prepare(self, spec: GrammarSpec) -> Grammar | None:
        """None: there is no room. One grammar always has room."""
        num_bytes = compiled_bytes(spec)
        if self._used_bytes and self._used_bytes + num_bytes > self._max_bytes:
            return None
        self._used_bytes += num_bytes
        grammar = self._grammars[spec] = Grammar(0, num_bytes)
        self._order(spec, grammar)
        return grammar

    def _order(self, spec: GrammarSpec, grammar: Grammar) -> None:
        self._serial += 1
        grammar.number = self._serial
        self._specs[grammar.number] = spec
        self.orders.append(PrepareGrammar(number=grammar.number, spec=spec))

    def _retire(self, spec: GrammarSpec, grammar: Grammar) -> None:
        """Nobody uses it any more. What is not ready may as well be dropped."""
        del self._grammars[spec]
        self._used_bytes -= grammar.num_bytes
        if grammar.failed or not grammar.ready:
            self._drop(grammar)
            return
        self._idle[spec] = grammar
        self._idle_bytes += grammar.num_bytes
        while self._idle_bytes > self._max_idle_bytes:
            oldest = self._idle.pop(next(iter(self._idle)))
            self._idle_bytes -= oldest.num_bytes
            self._drop(oldest)

    def _drop(self, grammar: Grammar) -> None:
        del self._specs[grammar.number]
        self.orders.append(DropGrammar(number=grammar.number))

    def _let_in(self) -> list[Request]:
        """There is room again: those that were held, in order; the ones that need not wait."""
        held, self._held = self._held, {}
        return [request for request in held if not self.must_wait(request)]
