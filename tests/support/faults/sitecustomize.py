"""Faults inside a worker or the scheduler, asked for by OCTAVO_TEST_FAULT: python imports this by
its name, where PYTHONPATH names this folder. The product knows nothing of it.

A request is `cursed` that asks for CURSED tokens. Faults: `die`, `raise`, `memory`: a step with a
cursed row does so; `memory-1`: on rank 1 alone; `memory-once`: the tenth step; `admit`: a cursed
row cannot be taken in; `admit-1`: by rank 1 alone; `illegal`: as `die`, but by a CUDA kernel that
reads what it must not; `ballast`: while a cursed row is computed, all of the GPU's memory is taken
but 32 MiB. `numbers`: requests that ask for as many tokens as POISONS has are spoilt there: in
hidden states, in the keys or values of their first block, or in their logits, from that many steps
on. `scheduler`: a scheduler that has planned a step with a cursed row dies. `warm-up`: the first
step, which is that of the warm-up, goes on for a minute. `slow`: each takes SLOW seconds more.
`busy`: the GPU is another process's.
`stuck`: once there is a file OCTAVO_TEST_STUCK, whoever removes it waits for its step for ever, as
for a kernel that does not end. `any`: what a request is cursed with depends on how many tokens it
asks for (CURSES).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.util
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

CURSED = 47
POISONS = {
    47: ("hidden", 10),
    48: ("keys", 10),
    49: ("values", 0),
    50: ("+inf", 10),
    51: ("-inf", 10),
    52: ("hidden", 0),
}
CURSES = {43: "raise", 44: "memory", 45: "nan"}
SLOW = 0.1
FAULT = os.environ.get("OCTAVO_TEST_FAULT", "")


def on_rank(number: int) -> bool:
    import torch.distributed as dist

    return dist.is_initialized() and dist.get_rank() == number


class Poison:
    """Wraps `ModelRunner.forward`. `kinds`: where the requests in these slots are to be spoilt."""

    def __init__(self, runner: Any) -> None:
        self._forward = runner.forward
        self._logits: Any = None
        self._ill: list[tuple[int, str]] = []
        self.kinds: dict[int, str] = {}

    def forward(self, runner: Any, rows: Any) -> Any:
        if self._logits is None:
            self._logits = runner.model.logits
            runner.model.logits = self._spoilt_logits
        slots = rows.slots.tolist()
        for slot in self.kinds.keys() & set(slots):
            self._spoil_cache(runner, slot)
        hidden = self._forward(runner, rows)
        chosen = enumerate(slots[row] for row in rows.samples)
        self._ill = [(index, self.kinds[slot]) for index, slot in chosen if slot in self.kinds]
        for index, kind in self._ill:
            if kind == "hidden":
                hidden.samples[index] = float("nan")
        return hidden

    def _spoil_cache(self, runner: Any, slot: int) -> None:
        block = int(runner.inputs.block_tables[slot, 0])
        for layer in runner.model.layers:
            caches = {"keys": layer.attention.k_cache, "values": layer.attention.v_cache}
            if self.kinds[slot] in caches:
                caches[self.kinds[slot]][block] = float("nan")

    def _spoilt_logits(self, hidden: Any) -> Any:
        logits = self._logits(hidden)
        for index, kind in self._ill:
            if kind == "+inf":
                logits[index, 5] = float("inf")
            elif kind == "-inf":
                logits[index] = float("-inf")
        return logits


class Curse:
    """Wraps `ModelRunner.execute`, and its sampler's `admit`."""

    def __init__(self, runner: Any, sampler: Any) -> None:
        self._execute, self._admit = runner.execute, sampler.admit
        self.poison = Poison(runner)
        self._slots: dict[int, str] = {}
        """Cursed rows, and with what."""
        self._poisons: dict[int, tuple[str, int]] = {}
        self._steps: dict[int, int] = {}
        self._step = 0
        self._plan: list[int] = []
        self._ballast: Any = None

    def execute(self, runner: Any, plan: Any) -> Any:
        import numpy as np

        self._step += 1
        for row in plan.new_rows:
            self._note(row)
        self._plan = np.frombuffer(plan.slots, np.int32).tolist()
        for slot in self._poisons.keys() & set(self._plan):
            self._steps[slot] += 1
            kind, first = self._poisons[slot]
            if self._steps[slot] >= first:
                self.poison.kinds[slot] = kind
        self._strike()
        return self._execute(runner, plan)

    def _note(self, row: Any) -> None:
        self._slots.pop(row.slot, None)
        self._poisons.pop(row.slot, None)
        self.poison.kinds.pop(row.slot, None)
        asked = row.sampling.max_tokens or 0
        if (fault := fault_of(asked)) is not None:
            self._slots[row.slot] = fault
        poison = POISONS.get(asked) if FAULT == "numbers" else None
        if fault == "nan":
            poison = ("hidden", 10)
        if poison is not None:
            self._poisons[row.slot], self._steps[row.slot] = poison, 0

    def admit(self, sampler: Any, row: Any) -> None:
        fails = FAULT == "admit" or (FAULT == "admit-1" and on_rank(1))
        if fails and row.sampling.max_tokens == CURSED:
            raise RuntimeError("injected")
        self._admit(sampler, row)

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
        if FAULT == "warm-up" and self._step == 1:
            print("warming up", file=sys.stderr, flush=True)
            begun = time.monotonic()
            while time.monotonic() < begun + 60:
                torch.ones(1000, 1000) @ torch.ones(1000, 1000)
        if FAULT == "slow":
            time.sleep(SLOW)
        if FAULT == "memory-once" and self._step == 10:
            raise torch.OutOfMemoryError("injected")
        if "memory" in faults or ("memory-1" in faults and on_rank(1)):
            raise torch.OutOfMemoryError("injected")
        if "raise" in faults:
            raise RuntimeError("injected")
        if "die" in faults:
            os.kill(os.getpid(), 9)
        if "illegal" in faults:
            importlib.import_module("wild_read").read()


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
    runner, sampler = module.ModelRunner, module.Sampler
    curse = Curse(runner, sampler)
    runner.execute = lambda self, plan: curse.execute(self, plan)
    runner.forward = lambda self, rows: curse.poison.forward(self, rows)
    sampler.admit = lambda self, row: curse.admit(self, row)


def patch_planner(module: ModuleType) -> None:
    """The plan is lost with the process."""
    planner = module.Planner
    make = planner.plan

    def plan(self: Any) -> Any:
        made = make(self)
        life = self._life
        rows = life.flights[-1].slots.tolist() if made is not None else []
        if any(life.running[slot].sampling.max_tokens == CURSED for slot in rows):
            os.kill(os.getpid(), 9)
        return made

    planner.plan = plan


def get_stuck(module: ModuleType) -> None:
    finish = module.finish

    def stuck(copying: Any) -> Any:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.environ["OCTAVO_TEST_STUCK"])
            threading.Event().wait()
        return finish(copying)

    module.finish = stuck  # type: ignore[attr-defined]


def take_the_gpu(module: ModuleType) -> None:
    def refuse(rank: int) -> None:
        raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable")

    module.torch.cuda.device_count = lambda: 1
    module.torch.cuda.set_device = refuse


SERVICES = "octavo.services"
TARGETS = {
    "busy": (f"{SERVICES}.worker.device", take_the_gpu),
    "scheduler": (f"{SERVICES}.scheduler.planner", patch_planner),
    "stuck": (f"{SERVICES}.worker.results", get_stuck),
}
TARGET, PATCH = TARGETS.get(FAULT, (f"{SERVICES}.worker.model_runner", patch))
ROLE = TARGET.rpartition(".")[0]


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
            PATCH(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if FAULT and any(ROLE in word for word in sys.orig_argv):
    sys.meta_path.insert(0, Finder())
if "OCTAVO_TEST_PRELOAD" in os.environ:
    preload(os.environ["OCTAVO_TEST_PRELOAD"])
if "OCTAVO_TEST_CLOCK" in os.environ:
    jump(os.environ["OCTAVO_TEST_CLOCK"])
