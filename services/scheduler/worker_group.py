"""WorkerGroup: the ranks as one: every plan to all of them, results from rank 0.

The ranks live and die together. A group that is started anew has a larger epoch, and is there
once all its ranks have said so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import msgspec

from octavo.shared.steps import (
    Adopt,
    DropGrammar,
    FromWorker,
    GrammarReady,
    PrepareGrammar,
    RowsRefused,
    StepFailed,
    StepPlan,
    StepResult,
    Stop,
    ToWorker,
    WorkerReady,
)
from octavo.shared.transport import HubLike

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Joined:
    """A group is there. `num_blocks`: KV blocks that every rank has. `phases`: seconds of the
    start of the rank that was last."""

    num_blocks: int
    phases: dict[str, float] = field(default_factory=dict)


class WorkerGroup:
    """`present`: there are workers, and plans reach them."""

    def __init__(self, hub: HubLike[ToWorker, FromWorker], num_ranks: int) -> None:
        self._hub = hub
        self._peers = [b"rank-%d" % rank for rank in range(num_ranks)]
        self._epoch = -1
        self._num_blocks: dict[int, int] = {}
        self._answers: dict[int, dict[int, bool]] = {}
        """To PrepareGrammar, by its number and by rank."""
        self.present = False

    @property
    def peers(self) -> list[bytes]:
        """The ranks."""
        return self._peers

    @property
    def num_malformed(self) -> int:
        return self._hub.num_malformed

    def lost(self) -> None:
        """A rank has died, and the others are of no use without it."""
        self.present = False
        self._num_blocks.clear()
        self._answers.clear()

    def broadcast(self, message: StepPlan | PrepareGrammar | DropGrammar) -> None:
        self._send(message)

    def start_over(self) -> None:
        """The same workers, who forget what they were doing."""
        self._answers.clear()
        self._send(Adopt())

    def step_failed(self) -> None:
        """A worker alone goes on. Of several, the one that said so ends, and the others with it."""
        if len(self._peers) == 1:
            self.start_over()
        else:
            self.lost()

    def receive(self) -> StepResult | StepFailed | RowsRefused | GrammarReady | Joined | None:
        """The next result, what all ranks have answered, or news of the group; None: nothing."""
        while (item := self._hub.receive()) is not None:
            message = item[1]
            match message:
                case StepResult() | StepFailed() | RowsRefused():
                    return message
                case GrammarReady():
                    if (ready := self._counted(message)) is not None:
                        return ready
                case WorkerReady():
                    if (joined := self._joined(message)) is not None:
                        return joined
        return None

    def _joined(self, ready: WorkerReady) -> Joined | None:
        """All ranks of a group that was not there before, once the last has said so."""
        if ready.epoch > self._epoch:
            self._epoch = ready.epoch
            self.lost()
        if self.present or ready.epoch < self._epoch:
            return None
        self._num_blocks[ready.rank] = ready.num_blocks
        if len(self._num_blocks) < len(self._peers):
            return None
        self.present = True
        self.start_over()
        return Joined(min(self._num_blocks.values()), ready.phases)

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
