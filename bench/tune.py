"""Find the launch parameters of the plain attention kernels for the GPU at hand.

    python bench/tune.py [--out kernels/tuned] [--quick] [--only decode] [--date 2026-11-23]

One part of the choice after the other is varied, on loads that it matters for; what wins is
written to <gpu>.json, which `octavo.kernels.tuning` reads. A candidate wins only if its results
are those of the present choice, and if it is faster by 2 % twice. On Hopper these kernels serve
what those in Gluon do not: other head sizes, windows, soft caps, large decode batches.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
import triton
import triton.testing

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.kernels.paged_attention import LOADS, Load, Shape, build
from octavo.kernels.decode_attention import plain_decode_attention
from octavo.kernels.prefill_attention import plain_prefill_attention, tile_of
from octavo.kernels.shared_memory import Keys, Stages, Tile
from octavo.kernels.tuning import decode_launch, file_for, tuning, using
from octavo.kernels.tuning_choices import Loop, Tuning

ROOT = Path(__file__).resolve().parent.parent
GAIN = 0.98
"""A winner's time over the present one's, at most: less is noise."""
ERROR = 1e-2
"""Of results in bfloat16, relative to the present choice's."""

NARROW, WIDE = Shape(32, 8, 128, 64), Shape(16, 8, 256, 64)
FEW = ("decode 1x1k", "decode 8x1k", "decode 16x2k")
MANY = ("decode 64x4k", "decode 256x1k", "decode 32x128+32x4k")
PREFILL = ("prefill 2k", "extend 2x1k on 4k")


@dataclass(frozen=True)
class Step:
    """One part of the choice, at `path`, and what else it might be."""

    path: str
    values: Sequence[Any]
    shape: Shape
    loads: Sequence[str]


def _loops(keys: Keys, *stages: Stages) -> list[Loop]:
    return [Loop(keys, 4, depth) for depth in stages]


STEPS = [
    Step("decode.few.narrow", [*_loops(64, 2, 3, 4), Loop(32, 4, 4)], NARROW, FEW),
    Step("decode.many.narrow", [*_loops(64, 1, 2, 3), Loop(32, 4, 3)], NARROW, MANY),
    Step("decode.programs_per_sm", [1, 2, 3, 4], NARROW, FEW[1:] + MANY),
    Step("decode.few_per_sm", [0, 2, 4, 8], NARROW, FEW[1:] + MANY),
    Step("decode.few.wide", [Loop(64, 4, 2), *_loops(32, 2, 3)], WIDE, FEW),
    Step("decode.many.wide", [*_loops(64, 1, 2), *_loops(32, 2, 3)], WIDE, MANY),
    Step(
        "prefill.narrow",
        [
            Tile(128, 64, 8, 2),
            Tile(128, 64, 8, 3),
            Tile(128, 32, 8, 3),
            Tile(64, 64, 4, 2),
            Tile(64, 64, 4, 3),
        ],
        NARROW,
        PREFILL,
    ),
    Step(
        "prefill.wide",
        [Tile(64, 64, 4, 2), Tile(64, 32, 4, 2), Tile(64, 32, 4, 3), Tile(128, 32, 8, 2)],
        WIDE,
        PREFILL,
    ),
]

Run = Callable[[Tuning, str, Shape], tuple[torch.Tensor, float]]
"""(choice, load, shape) -> (result, microseconds)."""
Fits = Callable[[Tuning, Step], bool]


@dataclass(frozen=True)
class Trial:
    name: str
    choice: Tuning
    times: list[float]
    """Microseconds a load; none where the candidate has a fault."""
    fault: str = ""


def get(choice: Any, path: str) -> Any:
    for name in path.split("."):
        choice = getattr(choice, name)
    return choice


def put(choice: Any, path: str, value: Any) -> Any:
    """The choice with another value at `path`."""
    name, _, rest = path.partition(".")
    inner = put(getattr(choice, name), rest, value) if rest else value
    return msgspec.structs.replace(choice, **{name: inner})


def tune(
    present: Tuning, steps: Sequence[Step], run: Run, fits: Fits, late: Callable[[], bool]
) -> Tuning:
    """Each step's winner put into the choice that the next step starts from."""
    for step in steps:
        if late():
            print(f"{step.path}: left as it is, time is up")
            continue
        trials = try_all(present, step, run, fits, late)
        present = winner(trials, functools.partial(timed, step, run))
        report(step, trials, present)
    return present


def try_all(
    present: Tuning, step: Step, run: Run, fits: Fits, late: Callable[[], bool]
) -> list[Trial]:
    """The present choice first, then every other that fits, while there is time."""
    values = [get(present, step.path)]
    values += [value for value in step.values if value not in values]
    expected: list[torch.Tensor] = []
    trials: list[Trial] = []
    for value in values:
        choice = put(present, step.path, value)
        if trials and (late() or trials[0].fault or not fits(choice, step)):
            continue
        trials.append(attempt(choice, step, run, expected))
    return trials


def attempt(choice: Tuning, step: Step, run: Run, expected: list[torch.Tensor]) -> Trial:
    """Run every load; results are compared with `expected`, or become it where that is short."""
    name, times = describe(get(choice, step.path)), []
    for at, load in enumerate(step.loads):
        try:
            result, micros = run(choice, load, step.shape)
        except (triton.TritonError, RuntimeError) as error:
            return Trial(name, choice, [], f"{type(error).__name__}: {error}".splitlines()[0])
        if at == len(expected):
            expected.append(result)
        if not (error_of(result, expected[at]) < ERROR):
            return Trial(name, choice, [], f"wrong results for {load}")
        times.append(micros)
    return Trial(name, choice, times)


def error_of(result: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative; NaN where either holds any."""
    expected = expected.float()
    return float((result.float() - expected).norm() / expected.norm())


def timed(step: Step, run: Run, choice: Tuning) -> list[float]:
    return [run(choice, load, step.shape)[1] for load in step.loads]


def winner(trials: Sequence[Trial], again: Callable[[Tuning], list[float]]) -> Tuning:
    """The fastest, if it is faster than the first by enough, and is so when both run again."""
    first = trials[0]
    best = min(
        (trial for trial in trials if trial.times),
        key=lambda trial: ratio(trial.times, first.times),
        default=first,
    )
    if best is first or ratio(best.times, first.times) > GAIN:
        return first.choice
    confirmed = ratio(again(best.choice), again(first.choice)) <= GAIN
    return best.choice if confirmed else first.choice


def ratio(times: Sequence[float], base: Sequence[float]) -> float:
    """Geometric mean."""
    logs = [math.log(time / other) for time, other in zip(times, base, strict=True)]
    return math.exp(sum(logs) / len(logs))


def report(step: Step, trials: Sequence[Trial], chosen: Tuning) -> None:
    short = [load.removeprefix("decode ") for load in step.loads]
    print(f"\n{step.path:32}" + "".join(f"{name:>18}" for name in short) + f"{'mean':>8}")
    for trial in trials:
        mark = "*" if get(trial.choice, step.path) == get(chosen, step.path) else " "
        row = "".join(f"{time:15.1f} us" for time in trial.times)
        end = f"{ratio(trial.times, trials[0].times):8.3f}" if trial.times else trial.fault
        print(f"{mark} {trial.name:30}{row}{end}", flush=True)


def describe(value: Any) -> str:
    if isinstance(value, msgspec.Struct):
        return ", ".join(f"{name} {field}" for name, field in msgspec.structs.asdict(value).items())
    return str(value)


def text_of(choice: Tuning) -> str:
    """JSON with each innermost object on a line."""
    text = json.dumps(msgspec.to_builtins(choice), indent=2)
    inner = re.compile(r"\{\s*([^{}]*?)\s*\}")
    return inner.sub(lambda match: "{" + " ".join(match[1].split()) + "}", text) + "\n"


def save(choice: Tuning, source: dict[str, str], folder: Path) -> Path:
    path = file_for(source["gpu"], folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text_of(msgspec.structs.replace(choice, made_with=source)))
    return path


def made_with(date: str) -> dict[str, str]:
    found = {
        "gpu": torch.cuda.get_device_name(),
        "driver": driver_version(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "date": date,
    }
    return {name: value for name, value in found.items() if value}


def driver_version() -> str:
    tool = shutil.which("nvidia-smi")
    argv = [tool or "", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20) if tool else None
    return done.stdout.partition("\n")[0].strip() if done else ""


def run_on(device: torch.device) -> Run:
    """The plain kernels even where Gluon's would serve, replayed in a CUDA graph."""
    loads: dict[str, Load] = {load.name: load for load in LOADS}

    def run(choice: Tuning, load: str, shape: Shape) -> tuple[torch.Tensor, float]:
        with using(device, choice):
            q, caches, batch = build(loads[load], shape)
            k_cache, v_cache = caches.unbind()
            out = torch.zeros_like(q, memory_format=torch.contiguous_format)
            attend = plain_prefill_attention if len(batch.work.tiles) else plain_decode_attention

            def call() -> None:
                attend(out, q, k_cache, v_cache, batch, shape.dim**-0.5, 0, 0.0)

            call()
            millis = triton.testing.do_bench_cudagraph(call, rep=10, return_mode="median")
        return out, 1e3 * millis

    return run


def fits_on(device: torch.device) -> Fits:
    def fits(choice: Tuning, step: Step) -> bool:
        """Whether a launch would be just what the choice says, not something smaller."""
        value, shape = get(choice, step.path), step.shape
        group = shape.heads // shape.kv_heads
        with using(device, choice):
            if isinstance(value, Tile):
                return bool(tile_of(group, shape.dim, torch.bfloat16, device) == value)
            if isinstance(value, Loop):
                launch = decode_launch(device, torch.bfloat16, shape.dim, group)
                tile = launch.few if ".few." in step.path else launch.many
                return bool(tile == value.tile(tile.rows))
        return True

    return fits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=ROOT / "kernels" / "tuned", metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="only heads of up to 128")
    parser.add_argument("--only", choices=("decode", "prefill"), default="")
    parser.add_argument("--seconds", type=float, default=100, help="no new candidate afterwards")
    parser.add_argument("--date", default="", help="to be written into the file")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(1, "Tuning needs a CUDA GPU.\n")
    device = torch.device("cuda", torch.cuda.current_device())
    steps = [
        step
        for step in STEPS
        if step.path.startswith(args.only) and not (args.quick and step.shape is WIDE)
    ]
    end = time.monotonic() + float(args.seconds)

    def late() -> bool:
        return time.monotonic() > end

    chosen = tune(tuning(device), steps, run_on(device), fits_on(device), late)
    print(f"\n{save(chosen, made_with(args.date), args.out)}")


if __name__ == "__main__":
    main()
