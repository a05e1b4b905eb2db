"""One tenant's few streams, alone and beside another's many, on a running server.

    python bench/fairness.py --url http://127.0.0.1:8000 [--small 2] [--large 200] [--repeat 5]
        [--input 256] [--output 200] [--json FILE]

The tenants are two names in `user`. The large one sends from a process of its own, so that this
one has time for what it measures; each of its streams is followed by the next. Figures are of the
small one: time to the first token, time between tokens, and how much longer both are beside.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.results import Record, add_json_option, record, save
from octavo.services.client.load.streams import Target, Timing, raise_file_limit, stream, stream_all

SETTLING_SECONDS = 5.0
LARGE_OUTPUT = 2000


def body(model: str, user: str, length: int, output: int, number: int) -> bytes:
    draw = random.Random(f"{user} {number}")
    prompt = [draw.randrange(300, 4000) for _ in range(length)]
    fields = {"model": model, "prompt": prompt, "max_tokens": output, "user": user, "seed": 1}
    fields |= {"stream": True, "ignore_eos": True, "stream_options": {"include_usage": True}}
    return json.dumps(fields).encode()


async def burden(target: Target, model: str, args: argparse.Namespace) -> None:
    """The large tenant, until this process is killed."""
    numbers = itertools.count()

    async def follow() -> None:
        while True:
            content = body(model, "large", args.input, LARGE_OUTPUT, next(numbers))
            await stream(target, content, Timing())

    await asyncio.gather(*(follow() for _ in range(args.large)))


def small(target: Target, model: str, args: argparse.Namespace, seed: int) -> list[Timing]:
    found: list[Timing] = []
    for repetition in range(args.repeat):
        first = seed + repetition * args.small
        bodies = [
            body(model, "small", args.input, args.output, first + number)
            for number in range(args.small)
        ]
        timings, _ = asyncio.run(stream_all(target, bodies, [0.0] * len(bodies), None))
        found += timings
    if errors := [timing.error for timing in found if timing.error]:
        raise SystemExit(errors[0])
    return found


def beside(target: Target, model: str, args: argparse.Namespace) -> list[Timing]:
    command = [sys.executable, __file__, *sys.argv[1:], "--burden"]
    other = subprocess.Popen(command)
    try:
        time.sleep(SETTLING_SECONDS)
        return small(target, model, args, seed=10_000)
    finally:
        other.kill()
        other.wait()


def show(name: str, timings: list[Timing]) -> list[Record]:
    gaps = [gap * 1e3 for timing in timings for gap in timing.gaps]
    columns = {
        "ttft": [timing.ttft * 1e3 for timing in timings],
        "itl_mean": [timing.tpot * 1e3 for timing in timings],
        "itl_p99": [statistics.quantiles(gaps, n=100)[98]],
    }
    records = [record(f"fairness_{name}_{key}", None, "ms", v) for key, v in columns.items()]
    print(f"{name:7}", "  ".join(f"{one.name.split('_', 2)[2]} {one.value:.2f}" for one in records))
    return records


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8000")
    add("--api-key", default="")
    add("--small", type=int, default=2, help="streams of the small tenant")
    add("--large", type=int, default=200, help="streams of the large one")
    add("--input", type=int, default=256, help="tokens of a prompt")
    add("--output", type=int, default=200, help="tokens of the small tenant's answers")
    add("--repeat", type=int, default=5)
    add("--burden", action="store_true", help=argparse.SUPPRESS)
    add_json_option(parser)
    return parser.parse_args()


def main() -> None:
    args = parse()
    raise_file_limit(args.large)
    target = Target(args.url, args.api_key)
    model = target.model()
    if args.burden:
        asyncio.run(burden(target, model, args))
    small(target, model, args, seed=20_000)
    alone = show("alone", small(target, model, args, seed=0))
    slow = show("beside", beside(target, model, args))
    ratios = [two.value / one.value for one, two in zip(alone, slow, strict=True)]
    print("slower ", "  ".join(f"{ratio:.2f}x" for ratio in ratios))
    save(args.json, [*alone, *slow], {"ratios": ratios})


if __name__ == "__main__":
    main()
