"""WorkerGroup: the ranks as one: every plan to all of them, results from rank 0."""

from __future__ import annotations

import logging

import msgspec

from octavo.shared.messages import (
    DropGrammar,
    FromWorker,
    GrammarReady,
    PrepareGrammar,
    StepPlan,
    StepResult,
    Stop,
    ToWorker,
    WorkerReady,
)
from octavo.shared.transport import HubLike

log = logging.getLogger(__name__)


class WorkerGroup:
    def __init__(self, hub: HubLike[ToWorker, FromWorker], num_ranks: int) -> None:
        self._hub = hub
        self._peers = [b"rank-%d" % rank for rank in range(num_ranks)]
        self._num_blocks: dict[int, int] = {}
        self._answers: dict[int, dict[int, bool]] = {}
        """To PrepareGrammar, by its number and by rank."""

    def check_ready(self) -> int | None:
        """KV blocks that every rank has, once all are ready; None before."""
        while (item := self._hub.receive()) is not None:
            if isinstance(item[1], WorkerReady):
                self._num_blocks[item[1].rank] = item[1].num_blocks
        if len(self._num_blocks) < len(self._peers):
            return None
        return min(self._num_blocks.values())

    def broadcast(self, message: StepPlan | PrepareGrammar | DropGrammar) -> None:
        self._send(message)

    def receive(self) -> StepResult | GrammarReady | None:
        """The next result that has arrived, or what all ranks have answered; None: neither."""
        while (item := self._hub.receive()) is not None:
            match item[1]:
                case StepResult():
                    return item[1]
                case GrammarReady():
                    if (ready := self._counted(item[1])) is not None:
                        return ready
                case other:
                    log.warning("ignored %s from %r", type(other).__name__, item[0])
        return None

    def _counted(self, answer: GrammarReady) -> GrammarReady | None:
        """The answer of all, once the last rank has given its own."""
        answers = self._answers.setdefault(answer.number, {})
        answers[answer.rank] = answer.failed
        if len(answers) < len(self._peers):
            return None
        del self._answers[answer.number]
        return msgspec.structs.replace(answer, failed=any(answers.values()))

    def stop(self) -> None:
        self._send(Stop())

    def _send(self, message: ToWorker) -> None:
        for peer in self._peers:
            self._hub.send(peer, message)
