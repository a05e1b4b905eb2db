"""A trace of the device's work over some steps, for chrome://tracing and `bench/gpu_trace.py`."""

from __future__ import annotations

import logging

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from octavo.services.worker.model_runner import Launched, ModelRunner
from octavo.services.worker.pooling.runner import PoolingRunner
from octavo.shared.errors import ConfigError
from octavo.shared.steps import StepPlan

log = logging.getLogger(__name__)
FIRST, COUNT = 200, 20
WARM_UP = 5


class TracedRunner:
    """`runner.execute`, with the steps `first`.. of `count` written to a file.

    `spec` is FILE, FILE:FIRST or FILE:FIRST:COUNT. Raises ConfigError on anything else.
    """

    def __init__(self, runner: ModelRunner | PoolingRunner, spec: str) -> None:
        self._runner = runner
        self.grammars = runner.grammars
        self._path, self._first, self._count = parse(spec)
        self._steps = 0
        self._profile: profile | None = None

    def execute(self, plan: StepPlan) -> Launched:
        if self._steps == self._first:
            self._start()
        launched = self._runner.execute(plan)
        self._steps += 1
        if self._profile is not None:
            self._step(self._profile)
        return launched

    def _start(self) -> None:
        # The profiler holds the first steps up; they are not in the trace.
        self._profile = profile(
            activities=[ProfilerActivity.CUDA],
            schedule=schedule(wait=0, warmup=WARM_UP, active=self._count),
            on_trace_ready=self._export,
        )
        self._profile.start()

    def _step(self, running: profile) -> None:
        if self._steps == self._first + WARM_UP + self._count:
            torch.cuda.synchronize()  # what is under way belongs to the trace
            self._profile = None
        running.step()
        if self._profile is None:
            running.stop()

    def _export(self, running: profile) -> None:
        running.export_chrome_trace(self._path)
        log.info("traced %d steps to %s", self._count, self._path)


def parse(spec: str) -> tuple[str, int, int]:
    """(file, first step, number of steps)."""
    path, *numbers = spec.split(":")
    if not path or len(numbers) > 2 or not all(number.isdigit() for number in numbers):
        raise ConfigError(f"--trace {spec!r} is not FILE[:FIRST[:COUNT]].")
    first, count = [*map(int, numbers), *(FIRST, COUNT)[len(numbers) :]]
    return path, first, max(count, 1)
