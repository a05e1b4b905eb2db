"""Microseconds a step costs the scheduler (schedule + update, CPU time, no message coding), and
what a snapshot for the live page costs it.

    python bench/scheduler.py [--running 64 256 1024] [--steps 400] [--json FILE]

All requests decode; two steps are in flight; the worker is free of charge.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sched_fake_worker import CheapWorker

from bench.results import Record, add_json_option, record, save
from octavo.services.scheduler.limits import Limits
from octavo.services.scheduler.live import Live
from octavo.services.scheduler.scheduler import Scheduler
from octavo.shared.messages import Submit, pack
from octavo.shared.sampling import SamplingParams
from octavo.shared.steps import StepPlan, StepResult

PROMPT_LEN = 128
WARM_UP = 50
PEER = b"frontend-0"
EOS = [2, 3]
PARTS = ("schedule", "update", "step", "snapshot")
SNAPSHOTS = 50


def filled(running: int, block_size: int, length: int) -> Scheduler:
    """A scheduler with `running` requests of PROMPT_LEN tokens queued."""
    blocks = running * (length // block_size + 1)
    limits = Limits(
        num_blocks=blocks + blocks // 50 + 1,
        block_size=block_size,
        max_model_len=1 << 17,
        max_num_seqs=running,
        max_num_batched_tokens=8192,
    )
    scheduler = Scheduler(limits)
    params = SamplingParams(max_tokens=None, eos_token_ids=EOS)
    for number in range(running):
        submit = Submit(
            request_id=number.to_bytes(16, "big"),
            # Staggered lengths: in service, block borders do not come all at once.
            prompt_ids=pack([number] * (PROMPT_LEN - number % block_size)),
            sampling=params,
            arrival_time=float(number),
        )
        scheduler.add(PEER, submit)
    return scheduler


def measure(running: int, block_size: int, steps: int) -> dict[str, float]:
    """Medians in microseconds."""
    scheduler = filled(running, block_size, PROMPT_LEN + 2 * steps + 1000)
    worker = CheapWorker(running)
    while scheduler.stats().waiting:
        run_one(scheduler, worker)
    for _ in range(WARM_UP):
        run_one(scheduler, worker)
    gc.collect()
    gc.freeze()
    in_flight = scheduler.schedule()
    times: list[tuple[int, int]] = []
    for _ in range(steps):
        began = time.perf_counter_ns()
        following = scheduler.schedule()
        planned = time.perf_counter_ns()
        result = finish(worker, in_flight)
        arrived = time.perf_counter_ns()
        scheduler.update(result)
        times.append((planned - began, time.perf_counter_ns() - arrived))
        in_flight = following
    if scheduler.stats().running != running:
        raise SystemExit("not all requests ran: the figures would mean nothing")
    schedule, update, both = (
        sorted(values)[steps // 2] / 1000
        for values in ([a for a, _ in times], [b for _, b in times], [a + b for a, b in times])
    )
    snapshot = snapshot_time(scheduler)
    return {"schedule": schedule, "update": update, "step": both, "snapshot": snapshot}


def snapshot_time(scheduler: Scheduler) -> float:
    """Median of what the live page asks for twice a second, in microseconds."""
    times = []
    for _ in range(SNAPSHOTS):
        live = Live(scheduler, time.monotonic)
        began = time.perf_counter_ns()
        live.text()
        times.append(time.perf_counter_ns() - began)
    return sorted(times)[SNAPSHOTS // 2] / 1000


def run_one(scheduler: Scheduler, worker: CheapWorker) -> None:
    scheduler.update(finish(worker, scheduler.schedule()))


def finish(worker: CheapWorker, plan: StepPlan | None) -> StepResult:
    if plan is None:
        raise SystemExit("nothing was scheduled")
    return worker.run(plan)


def records(running: int, args: argparse.Namespace) -> list[Record]:
    runs = [measure(running, args.block_size, args.steps) for _ in range(args.repetitions)]
    row = 14 if running in (256, 1024) else None
    return [
        record(
            f"scheduler_{part}_{running}",
            row if part != "snapshot" else None,
            "us",
            [run[part] for run in runs],
        )
        for part in PARTS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--running", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--block-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--repetitions", type=int, default=3)
    add_json_option(parser)
    args = parser.parse_args()
    found = [each for running in args.running for each in records(running, args)]
    save(args.json, found, {"block_size": args.block_size, "steps": args.steps})


if __name__ == "__main__":
    main()
