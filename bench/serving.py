"""Load generator for any OpenAI-compatible server: throughput, latency percentiles, goodput.

    python bench/serving.py --url http://127.0.0.1:8000 --rates 1 4 16 inf [--json FILE]
        [--input 100:1024] [--output 100:1024] [--shared-prefix 2048] [--temperature 0.6]
        [--slo-ttft-ms 500 --slo-tpot-ms 50] [--plot FILE.png] [--repeat 3]
    python bench/serving.py --input lognormal:202 --output lognormal:179 --rates 1 4 16 inf

A rate is in requests a second, Poisson; `inf` is all at once. Lengths: N, LOW:HIGH, or
lognormal:MEAN[:SIGMA] clipped to 4 and 1,024 (chat lengths, as above). Prompts are random
token ids, others in every run; outputs are forced to their length with ignore_eos.
TTFT, TPOT, ITL (between events) and E2E are of requests without an error. Goodput counts the
requests that met both limits.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.load.report import load_pyplot, plot, table
from bench.results import Record, add_json_option, record, save
from octavo.services.client.load.figures import Slo, summary
from octavo.services.client.load.streams import Target, raise_file_limit, stream_all
from octavo.services.client.load.workload import Workload, arrivals, read_lengths

ROWS = {"inf": 6, "16": 7}
KEPT = ("ttft_ms", "tpot_ms", "itl_ms")


def run(target: Target, model: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    workload = _workload(args, args.requests)
    slo = Slo(args.slo_ttft_ms, args.slo_tpot_ms)
    warm_up = _workload(args, args.warm_up).bodies(model, f"warm-up {args.seed}")
    asyncio.run(stream_all(target, warm_up, [0.0] * len(warm_up), None))
    reports = []
    for repetition in range(args.repeat):
        for rate in args.rates:
            seed = f"{args.seed} {rate} {repetition}"
            moments = arrivals(args.requests, rate, seed)
            bodies = workload.bodies(model, seed)
            result = asyncio.run(stream_all(target, bodies, moments, args.concurrency))
            reports.append({"rate": f"{rate:g}", **summary(*result, slo)})
    return reports


def _workload(args: argparse.Namespace, requests: int) -> Workload:
    return Workload(
        requests, args.input, args.output, args.vocab, args.temperature, args.shared_prefix
    )


def records(reports: list[dict[str, Any]], engine: Any) -> list[Record]:
    """Throughput and the latencies of each rate, a run a repetition."""
    found = []
    for rate in dict.fromkeys(report["rate"] for report in reports):
        same = [report for report in reports if report["rate"] == rate]
        name, row = f"serving_{rate}", ROWS.get(rate)
        speeds = [report["output_tokens_per_s"] for report in same]
        found.append(record(f"{name}_throughput", row, "tok/s", speeds, engine))
        for column in KEPT:
            for share in ("p50", "p99"):
                values = [report[column][share] for report in same]
                title = f"{name}_{column[:-3]}_{share}"
                found.append(record(title, row, "ms", values, engine))
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8000")
    add("--api-key", default="")
    add("--model", help="default: the first that the server names")
    add("--engine", choices=("octavo", "vllm"), default="octavo", help="whose server it is")
    add("--requests", type=int, default=512, help="of each run")
    add("--rates", "--rate", type=float, nargs="+", default=[math.inf], help="default: inf")
    add("--repeat", type=int, default=1, help="runs of each rate")
    add("--concurrency", type=int, help="at most so many at once (default: no limit)")
    add("--input", type=read_lengths, default="100:1024", metavar="LENGTHS")
    add("--output", type=read_lengths, default="100:1024", metavar="LENGTHS")
    add("--shared-prefix", type=int, default=0, help="tokens that all prompts begin with")
    add("--temperature", type=float, default=0.6)
    add("--vocab", type=int, default=4000, help="prompt ids are below this, and not below 300")
    add("--slo-ttft-ms", type=float, default=math.inf)
    add("--slo-tpot-ms", type=float, default=math.inf)
    add("--warm-up", type=int, default=8, help="requests before the first run")
    add("--seed", type=int, default=0)
    add("--plot", type=Path, metavar="FILE", help="picture of latency against load")
    add_json_option(parser)
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.plot:
        load_pyplot()  # before the runs, not after them
    raise_file_limit(args.concurrency or args.requests)
    target = Target(args.url, args.api_key)
    reports = run(target, args.model or target.model(), args)
    print(table(reports))
    for error in sorted({error for report in reports for error in report["errors"]}):
        print("error:", error, file=sys.stderr)
    save(args.json, records(reports, args.engine), reports)
    if args.plot:
        plot(reports, args.plot)


if __name__ == "__main__":
    main()
