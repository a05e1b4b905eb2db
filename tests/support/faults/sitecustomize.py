"""Faults inside a worker, asked for by OCTAVO_TEST_FAULT: python imports this by its name, where
PYTHONPATH names this folder. The product knows nothing of it.

A request is `cursed` that asks for CURSED tokens. Faults: `die`, `raise`, `memory`: a step with a
cursed row does so; `memory-once`: the tenth step; `nan`: a cursed row's hidden states are NaN from
its tenth token on; `illegal`: as `die`, but by a CUDA kernel that reads what it must not;
`ballast`: while a cursed row is computed, all of the GPU's memory is taken but 32 MiB; `any`: what
a request is cursed with depends on how many tokens it asks for (CURSES).
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
CURSES = {43: "raise", 44: "memory", 45: "nan"}
TARGET = "octavo.services.worker.model_runner"
FAULT = os.environ.get("OCTAVO_TEST_FAULT", "")


class Curse:
    """Wraps `ModelRunner.execute` and `forward`."""

    def __init__(self, runner: Any) -> None:
        self._execute, self._forward = runner.execute, runner.forward
        self._slots: dict[int, str] = {}
        """Cursed rows, and with what."""
        self._lengths: dict[int, int] = {}
        self._step = 0
        self._plan: list[int] = []
        self._ballast: Any = None

    def execute(self, runner: Any, plan: Any) -> Any:
        import numpy as np

        self._step += 1
        for row in plan.new_rows:
            self._slots.pop(row.slot, None)
            if (fault := fault_of(row.sampling.max_tokens)) is not None:
                self._slots[row.slot] = fault
                self._lengths[row.slot] = len(row.token_ids) // 4 - row.prompt_len
        self._plan = np.frombuffer(plan.slots, np.int32).tolist()
        for slot in self._slots.keys() & set(self._plan):
            self._lengths[slot] += 1
        self._strike()
        return self._execute(runner, plan)

    def _strike(self) -> None:
        import torch

        faults = {self._slots[slot] for slot in self._plan if slot in self._slots}
        if FAULT == "ballast":
            self._ballast = None
            torch.cuda.empty_cache()
            if faults:
                free, _ = torch.cuda.mem_get_info()
                size = free - (32 << 20)
                self._ballast = torch.empty(size, dtype=torch.uint8, device="cuda")
        if FAULT == "memory-once" and self._step == 10:
            raise torch.OutOfMemoryError("injected")
        if "memory" in faults:
            raise torch.OutOfMemoryError("injected")
        if "raise" in faults:
            raise RuntimeError("injected")
        if "die" in faults:
            os.kill(os.getpid(), 9)
        if "illegal" in faults:
            ids = torch.full((1 << 10,), 1 << 40, device="cuda")
            torch.zeros(4, device="cuda").index_select(0, ids)

    def forward(self, runner: Any, rows: Any) -> Any:
        hidden = self._forward(runner, rows)
        if "nan" in self._slots.values():
            for index, row in enumerate(rows.samples):
                slot = self._plan[row]
                if self._slots.get(slot) == "nan" and self._lengths[slot] >= 10:
                    hidden.samples[index] = float("nan")
        return hidden


def fault_of(max_tokens: int | None) -> str | None:
    """Of a request that asks for so many."""
    if FAULT == "any":
        return CURSES.get(max_tokens or 0)
    return FAULT if max_tokens == CURSED else None


def jump(path: str) -> None:
    """OCTAVO_TEST_CLOCK: a file of seconds ("+3600s") by which the wall clock is wrong."""
    right = time.time
    time.time = lambda: right() + float(Path(path).read_text().rstrip("s") or 0)


def preload(library: str) -> None:
    """OCTAVO_TEST_PRELOAD: begin again with this library. Servers do not pass LD_PRELOAD on."""
    if os.environ.get("LD_PRELOAD") != library:
        os.environ["LD_PRELOAD"] = library
        os.environ |= {
            name.removeprefix("OCTAVO_TEST_"): value
            for name, value in os.environ.items()
            if name.startswith("OCTAVO_TEST_FAKETIME")
        }
        os.execv(sys.executable, sys.orig_argv)


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
if "OCTAVO_TEST_PRELOAD" in os.environ:
    preload(os.environ["OCTAVO_TEST_PRELOAD"])
if "OCTAVO_TEST_CLOCK" in os.environ:
    jump(os.environ["OCTAVO_TEST_CLOCK"])
