"""Outbox: what the frontends are to be told, grouped by frontend."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from octavo.services.scheduler.slots import Longs, Mask, RequestIds
from octavo.shared.messages import (
    Finished,
    Ints,
    Logprobs,
    Outputs,
    PooledOutput,
    PromptLogprobsOutput,
    Started,
    pack,
    unpack,
    unpack_floats,
)
from octavo.shared.steps import StepResult


@dataclass
class Emission:
    """The tokens that a step brought: n rows, ascending in `rows` (indices of the plan).

    `peers` int64[n]: the outbox's numbers of the frontends.
    """

    rows: Longs
    peers: Longs
    request_ids: RequestIds
    token_ids: Ints

    def select(self, mask: Mask) -> Emission:
        return Emission(
            self.rows[mask], self.peers[mask], self.request_ids[mask], self.token_ids[mask]
        )


@dataclass
class Letter:
    """What one frontend is told next."""

    emission: Emission | None = None
    result: StepResult | None = None
    prompt_logprobs: list[PromptLogprobsOutput] = field(default_factory=list)
    started: list[Started] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    pooled: list[PooledOutput] = field(default_factory=list)
    admitted: list[bytes] = field(default_factory=list)

    def outputs(self) -> Outputs:
        if self.emission is None or self.result is None:
            return Outputs(
                started=self.started,
                finished=self.finished,
                prompt_logprobs=self.prompt_logprobs,
                pooled=self.pooled,
                admitted=self.admitted,
            )
        rows, logprobs = route_logprobs(self.emission.rows, self.result)
        return Outputs(
            request_ids=self.emission.request_ids.tobytes(),
            token_ids=pack(self.emission.token_ids),
            logprob_rows=rows,
            logprobs=logprobs,
            prompt_logprobs=self.prompt_logprobs,
            started=self.started,
            finished=self.finished,
            pooled=self.pooled,
            admitted=self.admitted,
        )


class Outbox:
    """Collects over one turn of the engine; `take` makes one Outputs per frontend."""

    def __init__(self) -> None:
        self._peers: list[bytes] = []
        self._letters: dict[bytes, Letter] = {}

    def peer_number(self, peer: bytes) -> int:
        """A small number that stands for a frontend in arrays."""
        if peer not in self._peers:
            self._peers.append(peer)
        return self._peers.index(peer)

    def to(self, peer: bytes) -> Letter:
        if (letter := self._letters.get(peer)) is None:
            letter = self._letters[peer] = Letter()
        return letter

    def emit(self, emission: Emission, result: StepResult) -> None:
        """File a step's tokens; once between two `take`s."""
        if not len(emission.rows):
            return
        if len(self._peers) == 1:
            self._file(0, emission, result)
            return
        for peer in np.unique(emission.peers).tolist():
            self._file(peer, emission.select(emission.peers == peer), result)

    def _file(self, peer: int, emission: Emission, result: StepResult) -> None:
        letter = self.to(self._peers[peer])
        letter.emission, letter.result = emission, result

    def discard(self, peer: bytes) -> None:
        """Tell a frontend nothing of what has been filed for it."""
        self._letters.pop(peer, None)

    def take(self) -> list[tuple[bytes, Outputs]]:
        letters, self._letters = self._letters, {}
        return [(peer, letter.outputs()) for peer, letter in letters.items()]


def route_logprobs(rows: Longs, result: StepResult) -> tuple[bytes, Logprobs | None]:
    """The result's logprobs of plan rows `rows` (ascending), and which of `rows` they are of."""
    if result.logprobs is None:
        return b"", None
    plan_rows = unpack(result.logprob_rows)
    index = np.searchsorted(rows, plan_rows)
    found = index < len(rows)
    found[found] = rows[index[found]] == plan_rows[found]
    if not found.any():
        return b"", None
    return pack(index[found]), select_logprobs(result.logprobs, np.flatnonzero(found))


def select_logprobs(values: Logprobs, positions: Longs) -> Logprobs:
    """The given positions only."""
    width = values.width
    return Logprobs(
        width=width,
        token_ids=unpack(values.token_ids).reshape(-1, width)[positions].tobytes(),
        logprobs=unpack_floats(values.logprobs).reshape(-1, width)[positions].tobytes(),
        ranks=unpack(values.ranks)[positions].tobytes(),
    )
