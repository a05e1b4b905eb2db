"""Loop: takes plans from the scheduler and has them run, until it is told to stop.

A step that fails in Python, or for want of memory, leaves the device sound: it is reported, and the
scheduler tries its requests in smaller batches. Where ranks compute together, or the device itself
has failed, this process ends, and the supervisor starts the group again.
"""

from __future__ import annotations

import gc
import logging
import signal

import torch

from octavo.services.worker.model_runner import ModelRunner
from octavo.services.worker.pooling.runner import PoolingRunner
from octavo.services.worker.results import ResultSender
from octavo.services.worker.step_trace import TracedRunner
from octavo.shared.messages import (
    Adopt,
    DropGrammar,
    PrepareGrammar,
    StepFailed,
    StepPlan,
    Stop,
    ToWorker,
    WorkerReady,
)
from octavo.shared.process import Child
from octavo.shared.transport import Spoke

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.25
CPU_OUT_OF_MEMORY = "can't allocate memory"
"""torch says it so, in a RuntimeError."""

Runner = ModelRunner | PoolingRunner | TracedRunner


class Loop:
    """`here`: what this rank says at the start and whenever it is idle. Only rank 0 has `results`;
    it is `alone` where there is no other."""

    def __init__(
        self,
        child: Child,
        spoke: Spoke[WorkerReady, ToWorker],
        runner: Runner,
        here: WorkerReady,
        results: ResultSender | None,
        alone: bool,
    ) -> None:
        self._child = child
        self._spoke = spoke
        self._runner = runner
        self._here = here
        self._results = results
        self._alone = alone
        self._failed = False

    def run(self) -> None:
        while not isinstance(message := self._spoke.receive(IDLE_SECONDS), Stop):
            if self._results is None or self._results.advances():
                self._child.alive()
            self._handle(message)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # ending already
        if self._results is not None:
            self._results.close()

    def _handle(self, message: ToWorker | None) -> None:
        match message:
            case None:
                self._spoke.send(self._here)
            case StepPlan():
                if not self._failed:
                    self._step(message)
            case PrepareGrammar():
                self._runner.grammars.prepare(message)
            case DropGrammar():
                self._runner.grammars.drop(message)
            case Adopt():
                self._runner.grammars.forget()
                self._failed = False

    def _step(self, plan: StepPlan) -> None:
        try:
            launched = self._runner.execute(plan)
        except Exception as error:
            if self._results is None or not self._alone:
                raise
            failure = describe(plan.step, error)
        else:
            if self._results is not None:
                self._results.put(launched)
            return
        release_memory()  # now that the exception, and what its frames held, is gone
        self._failed = True
        self._results.put(failure)


def describe(step: int, error: Exception) -> StepFailed:
    memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    memory |= CPU_OUT_OF_MEMORY in str(error)
    if memory:
        log.error("step %d is out of memory", step)
    else:
        log.error("step %d failed", step, exc_info=error)
    return StepFailed(step, memory)


def release_memory() -> None:
    """Give back what is cached. Raises what the device has, if it is the device that failed."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
