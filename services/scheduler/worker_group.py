"""WorkerGroup: the ranks as one: every plan to all of them, results from rank 0."""

from __future__ import annotations

import logging

from octavo.shared.messages import (
    FromWorker,
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

    def check_ready(self) -> int | None:
        """KV blocks that every rank has, once all are ready; None before."""
        while (item := self._hub.receive()) is not None:
            if isinstance(item[1], WorkerReady):
                self._num_blocks[item[1].rank] = item[1].num_blocks
        if len(self._num_blocks) < len(self._peers):
            return None
        return min(self._num_blocks.values())

    def broadcast(self, plan: StepPlan) -> None:
        self._send(plan)

    def receive(self) -> StepResult | None:
        """The next result that has arrived, or None."""
        while (item := self._hub.receive()) is not None:
            if isinstance(item[1], StepResult):
                return item[1]
            log.warning("ignored %s from %r", type(item[1]).__name__, item[0])
        return None

    def stop(self) -> None:
        self._send(Stop())

    def _send(self, message: ToWorker) -> None:
        for peer in self._peers:
            self._hub.send(peer, message)
