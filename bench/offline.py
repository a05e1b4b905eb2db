"""Generation without a server, through the library and its real processes.

    python bench/offline.py [--measure ttft decode throughput nano] [--model llama-3.1-8b]
        [--engine max_num_seqs=512 max_num_batched_tokens=16384] [--json FILE]

    throughput   512 requests, prompts and outputs of 100 to 1,024 tokens, temperature 0.6
    decode       milliseconds a step at batch 1, 32 and 256, on prompts of 1,024 tokens
    ttft         milliseconds to the first token of one request of 2,048 and 8,192 tokens
    nano         nano-vllm's workload: 256 requests on Qwen3-0.6B's shape

A model is the name of a shape (bench/shapes.py) or a folder; weights are random either way.
Every repetition has prompts of its own, so that the prefix cache never helps.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness import Bench, add_engine_option, bounds, draw_requests, other_ids, running
from bench.results import Record, add_json_option, record, save

MEASURES = ("ttft", "decode", "throughput", "nano")
DECODE_ROWS = {1: 1, 32: 2, 256: 3}
TEMPERATURE = 0.6
SEED_STEP = 1000
LONGEST, NANO_LONGEST = 16384, 4096
"""Context, where --engine names none."""


def ttft(bench: Bench, args: argparse.Namespace) -> list[Record]:
    records = []
    for length in args.prompts:
        bench.first_token(bench.prompt(length))
        times = [bench.first_token(bench.prompt(length)) for _ in range(args.ttft_repetitions)]
        records.append(record(f"ttft_{length}", 4, "ms", times))
    return records


def decode(bench: Bench, args: argparse.Namespace) -> list[Record]:
    records = []
    for batch in args.batches:
        steps = [bench.decode_step(batch, *args.decode) for _ in range(args.repetitions)]
        records.append(record(f"decode_step_{batch}", DECODE_ROWS.get(batch), "ms", steps))
    return records


def throughput(bench: Bench, args: argparse.Namespace) -> list[Record]:
    rates = []
    for repetition in range(args.repetitions):
        seed = SEED_STEP * repetition
        requests = draw_requests(seed, args.requests or 512, args.lengths, bench.top_id)
        rates.append(bench.output_rate(requests, TEMPERATURE))
    return [record("offline_uniform", 5, "tok/s", rates)]


def nano(bench: Bench, args: argparse.Namespace) -> list[Record]:
    """The first repetition is the workload itself; later ones keep its lengths."""
    requests = draw_requests(0, args.requests or 256, args.lengths, bench.top_id)
    rates = []
    for repetition in range(args.repetitions):
        if repetition:
            requests = other_ids(requests, repetition, bench.top_id)
        rates.append(bench.output_rate(requests, TEMPERATURE))
    return [record("nano_vllm", 8, "tok/s", rates)]


def run(args: argparse.Namespace) -> list[Record]:
    """One engine for what is asked of the model, another for nano-vllm's."""
    records: list[Record] = []
    engine = dict(args.engine)
    on_model = [
        measure for measure in (ttft, decode, throughput) if measure.__name__ in args.measure
    ]
    if on_model:
        with running(args.model, {"max_model_len": LONGEST} | engine) as bench:
            for measure in on_model:
                records += measure(bench, args)
    if "nano" in args.measure:
        with running(args.nano_model, {"max_model_len": NANO_LONGEST} | engine) as bench:
            records += nano(bench, args)
    return records


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--model", default="llama-3.1-8b")
    parser.add_argument("--nano-model", default="qwen3-0.6b")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--ttft-repetitions", type=int, default=5)
    parser.add_argument("--requests", type=int, help="default: 512, and 256 of nano-vllm's")
    parser.add_argument("--lengths", type=bounds, default=(100, 1024), metavar="LOW:HIGH")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 256])
    parser.add_argument("--decode", type=bounds, default=(1024, 128), metavar="PROMPT:OUTPUT")
    parser.add_argument("--prompts", type=int, nargs="+", default=[2048, 8192], help="of ttft")
    add_engine_option(parser)
    add_json_option(parser)
    return parser.parse_args()


def main() -> None:
    args = parse()
    save(args.json, run(args), {"model": args.model, "engine": dict(args.engine)})


if __name__ == "__main__":
    main()
