"""Loop: takes plans from the scheduler and has them run, until it is told to stop.

A step that fails in Python, or for want of memory, leaves the device sound: it is reported, and the
scheduler tries its requests in smaller batches. Where the device itself has failed, this process
ends, and the supervisor starts the group again.

So it does where ranks compute together: the others may be waiting inside a collective for a rank
that will not come, and no message reaches them there. Want of memory is reported nevertheless, by
whichever rank it meets, so that the scheduler knows of more than a death: it tries smaller batches
at once, and who fails alone is told the truth. What peers raise when a rank ends is no such report.
"""

from __future__ import annotations

import signal

from octavo.services.worker.failures import describe, lacks_memory, release_memory
from octavo.services.worker.model_runner import ModelRunner
from octavo.services.worker.pooling.runner import PoolingRunner
from octavo.services.worker.results import ResultSender
from octavo.services.worker.step_trace import TracedRunner
from octavo.shared.process import Child
from octavo.shared.steps import (
    Adopt,
    DropGrammar,
    PrepareGrammar,
    StepFailed,
    StepPlan,
    Stop,
    ToWorker,
    WorkerReady,
)
from octavo.shared.transport import Spoke

IDLE_SECONDS = 0.25

Runner = ModelRunner | PoolingRunner | TracedRunner


class Loop:
    """`here`: what this rank says at the start and whenever it is idle. Only rank 0 has `results`;
    it is `alone` where there is no other."""

    def __init__(
        self,
        child: Child,
        spoke: Spoke[WorkerReady | StepFailed, ToWorker],
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
            if self._results is not None:
                self._results.put(launched)
            return
        except Exception as error:
            if self._results is None or not self._alone:
                if lacks_memory(error):
                    self._spoke.send(describe(plan.step, error))
                raise
            failure = describe(plan.step, error)
        release_memory()  # now that the exception, and what its frames held, is gone
        self._failed = True
        self._results.put(failure)
