"""How bench/tune.py chooses, with a timer that is not one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import torch
import triton.testing
from kernel_batches import Case, build

from bench import tune
from bench.kernels.paged_attention import LOADS, Shape
from bench.tune import NARROW, STEPS, Step, get, put
from octavo.kernels import reference
from octavo.kernels.launch import NO_DEVICE
from octavo.kernels.shared_memory import Tile
from octavo.kernels.tuning import load
from octavo.kernels.tuning_choices import Loop, Tuning, defaults

PRESENT = defaults(NO_DEVICE)
DEVICE = torch.empty(0, device="cuda" if torch.cuda.is_available() else "cpu").device
FEW = Step(
    "decode.few.narrow", [Loop(64, 4, 2), Loop(64, 4, 3), Loop(32, 4, 4)], NARROW, ("a", "b")
)
PER_SM = Step("decode.programs_per_sm", [1, 2, 3], NARROW, ("a",))


@dataclass
class Machine:
    """Takes as long as `cost` says; remembers what ran."""

    cost: Callable[[Tuning], float]
    wrong: list[object] = field(default_factory=list)
    broken: list[object] = field(default_factory=list)
    ran: list[tuple[Tuning, str]] = field(default_factory=list)

    def run(self, choice: Tuning, load: str, shape: Shape) -> tuple[torch.Tensor, float]:
        self.ran.append((choice, load))
        value = choice.decode.few.narrow
        if value in self.broken:
            raise RuntimeError("out of resource: shared memory\nand more")
        result = torch.full((4,), float("nan") if value in self.wrong else 2.0)
        return result, self.cost(choice) * (10 if load == "b" else 1)


def _never() -> bool:
    return False


def _chosen(machine: Machine, steps: list[Step], present: Tuning = PRESENT) -> Tuning:
    return tune.tune(present, steps, machine.run, lambda *_: True, _never)


def _by_stages(costs: dict[int, float]) -> Callable[[Tuning], float]:
    return lambda choice: costs[choice.decode.few.narrow.stages]


def test_the_fastest_is_put_in_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(lambda choice: 9.0 if choice.decode.few.narrow == Loop(64, 4, 3) else 10.0)
    chosen = _chosen(machine, [FEW])
    assert chosen == put(PRESENT, FEW.path, Loop(64, 4, 3))
    assert get(PRESENT, FEW.path) == Loop(64, 4, 4)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["decode.few.narrow", "a", "b", "mean"]
    (mine,) = [line for line in lines if line.startswith("*")]
    assert " ".join(mine.split()) == "* keys 64, warps 4, stages 3 9.0 us 90.0 us 0.900"


def test_a_wrong_or_broken_candidate_never_wins(capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(
        _by_stages({4: 10.0, 3: 5.0, 2: 1.0}), wrong=[Loop(64, 4, 2)], broken=[Loop(64, 4, 3)]
    )
    assert _chosen(machine, [FEW]) == PRESENT
    printed = capsys.readouterr().out
    assert "wrong results for a" in printed
    assert "RuntimeError: out of resource: shared memory\n" in printed


def test_results_are_compared_on_every_load() -> None:
    def run(choice: Tuning, load: str, shape: Shape) -> tuple[torch.Tensor, float]:
        fast = choice.decode.few.narrow == Loop(64, 4, 2)
        return torch.tensor([1.0, 1.05 if fast and load == "b" else 1.0]), 1.0 if fast else 2.0

    assert tune.tune(PRESENT, [FEW], run, lambda *_: True, _never) == PRESENT


def test_noise_does_not_win() -> None:
    assert _chosen(Machine(_by_stages({4: 10.0, 3: 9.9, 2: 11.0})), [FEW]) == PRESENT


def test_a_gain_that_does_not_come_again_does_not_win() -> None:
    machine = Machine(lambda _: 10.0)
    machine.cost = lambda _: 5.0 if len(machine.ran) in (3, 4) else 10.0
    assert _chosen(machine, [FEW]) == PRESENT
    assert len(machine.ran) == 2 * 4 + 2 * 2


def test_a_step_starts_from_the_winner_of_the_one_before() -> None:
    def cost(choice: Tuning) -> float:
        return 10.0 - choice.decode.few.narrow.keys / 64 + choice.decode.programs_per_sm

    chosen = _chosen(Machine(cost), [PER_SM, FEW])
    assert chosen.decode.programs_per_sm == 1
    chosen = _chosen(Machine(cost), [FEW, PER_SM], put(PRESENT, FEW.path, Loop(32, 4, 4)))
    assert (chosen.decode.programs_per_sm, chosen.decode.few.narrow.keys) == (1, 64)


def test_what_does_not_fit_is_not_run() -> None:
    machine = Machine(_by_stages({4: 10.0, 3: 1.0, 2: 1.0}))
    tune.tune(PRESENT, [FEW], machine.run, lambda choice, step: False, _never)
    assert machine.ran == [(PRESENT, "a"), (PRESENT, "b")]


def test_a_load_that_cannot_run_leaves_its_step_as_it_is() -> None:
    machine = Machine(lambda _: 1.0, broken=[get(PRESENT, FEW.path)])
    assert _chosen(machine, [FEW]) == PRESENT
    assert len(machine.ran) == 1


def test_when_time_is_up(capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(_by_stages({4: 10.0, 3: 1.0, 2: 1.0}))
    chosen = tune.tune(
        PRESENT, [FEW, PER_SM], machine.run, lambda *_: True, lambda: len(machine.ran) >= 4
    )
    assert get(chosen, FEW.path) == Loop(64, 4, 2)
    assert chosen.decode.programs_per_sm == PRESENT.decode.programs_per_sm
    assert "decode.programs_per_sm: left as it is" in capsys.readouterr().out


@pytest.mark.parametrize("queries", [[1, 1], [30, 9]])
def test_a_run_launches_the_plain_kernels(
    queries: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = build(Case(queries, [90, 33]), DEVICE.type)
    caches = torch.stack([inputs.k_cache, inputs.v_cache])
    calls: list[None] = []

    def time(call: Callable[[], None], **_: object) -> float:
        call()
        calls.append(None)
        return 0.25

    monkeypatch.setattr(tune, "build", lambda *_: (inputs.q, caches, inputs.batch))
    monkeypatch.setattr(triton.testing, "do_bench_cudagraph", time)
    choice = put(PRESENT, "decode.few.float32", Loop(16, 4, 1))
    out, micros = tune.run_on(DEVICE)(choice, "decode 1x1k", Shape(4, 2, 64, 16))
    expected = reference.paged_attention(
        inputs.q, inputs.k_cache, inputs.v_cache, inputs.batch, 64**-0.5
    )
    assert (micros, len(calls)) == (250.0, 1)
    assert (out - expected).abs().max() < 1e-5


def test_what_a_gpu_has_no_room_for_does_not_fit() -> None:
    fits = tune.fits_on(torch.device("cpu"))
    few, wide = STEPS[0], next(step for step in STEPS if step.path == "prefill.wide")
    assert fits(put(PRESENT, few.path, Loop(64, 4, 7)), few)
    assert not fits(put(PRESENT, few.path, Loop(64, 4, 8)), few)
    assert fits(put(PRESENT, wide.path, Tile(128, 64, 8, 2)), wide)
    assert not fits(put(PRESENT, wide.path, Tile(128, 64, 8, 3)), wide)
    assert fits(put(PRESENT, "decode.few_per_sm", 0), STEPS[3])


def test_every_step_names_a_part_and_loads() -> None:
    names = {load.name for load in LOADS}
    for step in STEPS:
        kind = type(get(PRESENT, step.path))
        assert {type(value) for value in step.values} == {kind}
        assert set(step.loads) <= names
        assert kind in (int, Loop, Tile)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    chosen = put(PRESENT, "prefill.wide", Tile(64, 32, 4, 3))
    path = tune.save(chosen, {"gpu": "NVIDIA L40S", "date": "2026-11-23"}, tmp_path / "new")
    assert path == tmp_path / "new" / "nvidia-l40s.json"
    found = load(path)
    assert found.made_with["date"] == "2026-11-23"
    assert msgspec.structs.replace(found, made_with={}) == chosen
    assert '"wide": {"rows": 64, "keys": 32, "warps": 4, "stages": 3}' in path.read_text()


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["tune.py"])
    with pytest.raises(SystemExit) as stopped:
        tune.main()
    assert stopped.value.code == 1
    assert capsys.readouterr().err == "Tuning needs a CUDA GPU.\n"
