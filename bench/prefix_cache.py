"""What prefix caching costs where it never helps, and what a full hit gives.

    python bench/prefix_cache.py [--model llama-3.1-8b] [--engine max_num_seqs=256] [--json FILE]

(a) Throughput of 512 requests of 100 to 1,024 tokens in and out, with caching and without, on
engines started in turn; prompts are unlike each other. The cost is in percent, a run a pair.
(b) Milliseconds to the first token of a prompt of 8,192 tokens that was asked before, beside
those of one that was not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness import Bench, add_engine_option, bounds, draw_requests, running
from bench.results import Record, add_json_option, record, save

TEMPERATURE = 0.6
LONGEST = 16384


def costs(pairs: list[tuple[float, float]]) -> list[float]:
    """Percent of the rate without caching that caching takes, of (with, without) pairs."""
    return [100 * (1 - cached / plain) for cached, plain in pairs]


def cost(args: argparse.Namespace) -> list[Record]:
    pairs = []
    for repetition in range(args.repetitions):
        # Every other pair the other way round: a machine that warms up favours neither.
        order = (True, False) if repetition % 2 == 0 else (False, True)
        rates = {caching: rate(args, caching, repetition) for caching in order}
        pairs.append((rates[True], rates[False]))
    return [
        record("prefix_cache_cost", 16, "%", costs(pairs)),
        record("throughput_with_caching", None, "tok/s", [pair[0] for pair in pairs]),
        record("throughput_without_caching", None, "tok/s", [pair[1] for pair in pairs]),
    ]


def rate(args: argparse.Namespace, caching: bool, seed: int) -> float:
    engine = {"max_model_len": LONGEST, **dict(args.engine), "enable_prefix_caching": caching}
    with running(args.model, engine) as bench:
        requests = draw_requests(seed, args.requests, args.lengths, bench.top_id)
        return bench.output_rate(requests, TEMPERATURE)


def hits(args: argparse.Namespace) -> list[Record]:
    with running(args.model, {"max_model_len": LONGEST} | dict(args.engine)) as bench:
        pairs = [hit(bench, args.prompt) for _ in range(args.hit_repetitions + 1)][1:]
    return [
        record(f"ttft_full_hit_{args.prompt}", 16, "ms", [pair[1] for pair in pairs]),
        record(f"ttft_no_hit_{args.prompt}", None, "ms", [pair[0] for pair in pairs]),
    ]


def hit(bench: Bench, length: int) -> tuple[float, float]:
    """Milliseconds to the first token of a new prompt, and of the same once more."""
    prompt = bench.prompt(length)
    times = bench.first_token(prompt), bench.first_token(prompt)
    if (cached := bench.cached_tokens(prompt)) < 0.9 * length:
        raise SystemExit(f"only {cached} of {length} tokens were in the cache: no figures")
    return times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", nargs="+", choices=("cost", "hits"), default=["cost", "hits"])
    parser.add_argument("--model", default="llama-3.1-8b", help="a shape or a folder")
    parser.add_argument("--repetitions", type=int, default=3, help="pairs of engines")
    parser.add_argument("--hit-repetitions", type=int, default=5)
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--lengths", type=bounds, default=(100, 1024), metavar="LOW:HIGH")
    parser.add_argument("--prompt", type=int, default=8192, help="tokens of the full hit")
    add_engine_option(parser)
    add_json_option(parser)
    args = parser.parse_args()
    measures = {"cost": cost, "hits": hits}
    records = [each for name in args.measure for each in measures[name](args)]
    save(args.json, records, {"model": args.model, "engine": dict(args.engine)})


if __name__ == "__main__":
    main()
