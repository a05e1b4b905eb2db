"""Steps that fail: what the loop says of them, and when it ends."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from octavo.services.worker.failures import lacks_memory
from octavo.services.worker.loop import Loop
from octavo.shared.steps import Adopt, StepFailed, StepPlan, Stop, WorkerReady

PLANS = [StepPlan(step=step, new_rows=[], slots=b"", num_tokens=b"") for step in range(5)]


class Spoke:
    """`said`: what went to the scheduler."""

    def __init__(self, *messages: Any) -> None:
        self._messages = list(messages)
        self.said: list[Any] = []

    def receive(self, timeout: float) -> Any:
        return self._messages.pop(0) if self._messages else Stop()

    def send(self, message: Any) -> None:
        self.said.append(message)


class Runner:
    """Fails in the steps that it is given errors for."""

    def __init__(self, **errors: Exception) -> None:
        self._errors = errors
        self.grammars = self

    def execute(self, plan: StepPlan) -> Any:
        if (error := self._errors.get(f"step{plan.step}")) is not None:
            raise error
        return plan

    def forget(self) -> None:
        pass


class Results:
    """Has no pinned memory for the results of step `full`."""

    def __init__(self, full: int = -1) -> None:
        self._full = full
        self.sent: list[Any] = []

    def advances(self) -> bool:
        return True

    def put(self, launched: Any) -> None:
        if launched.step == self._full and not isinstance(launched, StepFailed):
            raise RuntimeError("CUDA error: out of memory")
        self.sent.append(launched)

    def close(self) -> None:
        pass


class Child:
    def alive(self) -> None:
        pass


def loop_of(spoke: Spoke, runner: Runner, results: Results | None, alone: bool) -> Loop:
    parts: Any = (Child(), spoke, runner, WorkerReady(0, 1), results, alone)
    return Loop(*parts)


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("memory"), False),
    ],
)
def test_a_worker_alone_reports_and_waits_for_an_adopt(error: Exception, memory: bool) -> None:
    assert lacks_memory(error) == memory
    results, runner = Results(), Runner(step1=error)
    loop_of(Spoke(*PLANS[:3], Adopt(), PLANS[3]), runner, results, True).run()
    assert results.sent == [PLANS[0], StepFailed(1, memory), PLANS[3]]


def test_results_without_memory_for_them_are_a_failed_step() -> None:
    results = Results(full=1)
    loop_of(Spoke(*PLANS[:3], Adopt(), PLANS[3]), Runner(), results, True).run()
    assert results.sent == [PLANS[0], StepFailed(1, True), PLANS[3]]


@pytest.mark.parametrize("rank", [0, 1])
def test_one_of_several_says_that_it_lacks_memory_and_ends(rank: int) -> None:
    results = Results() if rank == 0 else None
    spoke = Spoke(*PLANS)
    with pytest.raises(torch.OutOfMemoryError):
        runner = Runner(step2=torch.OutOfMemoryError("CUDA out of memory."))
        loop_of(spoke, runner, results, False).run()
    assert spoke.said == [StepFailed(2, True)]


def test_what_peers_raise_when_a_rank_ends_is_not_reported() -> None:
    spoke = Spoke(*PLANS)
    with pytest.raises(RuntimeError):
        runner = Runner(step0=RuntimeError("Connection closed by peer"))
        loop_of(spoke, runner, None, False).run()
    assert spoke.said == []
