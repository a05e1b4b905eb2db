"""Faults inside a worker, asked for by OCTAVO_TEST_FAULT: python imports this by its name, where
PYTHONPATH names this folder. The product knows nothing of it.

A request is `cursed` that asks for CURSED tokens. Faults: `die`, `raise`, `memory`: a step with a
cursed row does so; `memory-once`: the tenth step; `nan`: a cursed row's hidden states are NaN from
its tenth token on; `illegal`: as `die`, but by a CUDA kernel that reads what it must not;
`ballast`: while a cursed row is computed, all of the GPU's memory is taken but 32 MiB. `warm-up`:
the first step, which is that of the warm-up, goes on for a minute.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

CURSED = 47
TARGET = "octavo.services.worker.model_runner"
FAULT = os.environ.get("OCTAVO_TEST_FAULT", "")


class Curse:
    """Wraps `ModelRunner.execute` and `forward`."""

    def __init__(self, runner: Any) -> None:
        self._execute, self._forward = runner.execute, runner.forward
        self._slots: set[int] = set()
        self._lengths: dict[int, int] = {}
        self._step = 0
        self._plan: list[int] = []
        self._ballast: Any = None

    def execute(self, runner: Any, plan: Any) -> Any:
        import numpy as np

        self._step += 1
        for row in plan.new_rows:
            self._slots.discard(row.slot)
            if row.sampling.max_tokens == CURSED:
                self._slots.add(row.slot)
                self._lengths[row.slot] = len(row.token_ids) // 4 - row.prompt_len
        self._plan = np.frombuffer(plan.slots, np.int32).tolist()
        for slot in self._slots & set(self._plan):
            self._lengths[slot] += 1
        self._strike()
        return self._execute(runner, plan)

    def _strike(self) -> None:
        import torch

        cursed = bool(self._slots & set(self._plan))
        if FAULT == "ballast":
            self._ballast = None
            torch.cuda.empty_cache()
            if cursed:
                free, _ = torch.cuda.mem_get_info()
                size = free - (32 << 20)
                self._ballast = torch.empty(size, dtype=torch.uint8, device="cuda")
        if FAULT == "warm-up" and self._step == 1:
            print("warming up", file=sys.stderr, flush=True)
            begun = time.monotonic()
            while time.monotonic() < begun + 60:
                torch.ones(1000, 1000) @ torch.ones(1000, 1000)
        if FAULT == "memory-once" and self._step == 10:
            raise torch.OutOfMemoryError("injected")
        if cursed and FAULT == "memory":
            raise torch.OutOfMemoryError("injected")
        if cursed and FAULT == "raise":
            raise RuntimeError("injected")
        if cursed and FAULT == "die":
            os.kill(os.getpid(), 9)
        if cursed and FAULT == "illegal":
            ids = torch.full((1 << 10,), 1 << 40, device="cuda")
            torch.zeros(4, device="cuda").index_select(0, ids)

    def forward(self, runner: Any, rows: Any) -> Any:
        hidden = self._forward(runner, rows)
        if FAULT == "nan":
            for index, row in enumerate(rows.samples):
                slot = self._plan[row]
                if slot in self._slots and self._lengths[slot] >= 10:
                    hidden.samples[index] = float("nan")
        return hidden


def jump(path: str) -> None:
    """OCTAVO_TEST_CLOCK: a file of seconds by which the wall clock is wrong."""
    right = time.time
    time.time = lambda: right() + float(Path(path).read_text() or 0)


def patch(module: ModuleType) -> None:
    runner = module.ModelRunner
    curse = Curse(runner)
    runner.execute = lambda self, plan: curse.execute(self, plan)
    runner.forward = lambda self, rows: curse.forward(self, rows)


class Finder(importlib.abc.MetaPathFinder):
    """Patches the target once it has been imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> Any:
        if name != TARGET:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if FAULT and any("octavo.services.worker" in word for word in sys.orig_argv):
    sys.meta_path.insert(0, Finder())
if "OCTAVO_TEST_CLOCK" in os.environ:
    jump(os.environ["OCTAVO_TEST_CLOCK"])
