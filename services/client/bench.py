"""`octavo bench`: load for a running server, and how it bore it; as `vllm bench serve` does."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

from octavo.services.client.address import Address, Refused, add_address, said
from octavo.services.client.load.figures import Slo
from octavo.services.client.load.outcome import METRICS, Run, table
from octavo.services.client.load.streams import Target, raise_file_limit, stream_all
from octavo.services.client.load.workload import FIRST_ID, Uniform, Workload, arrivals
from octavo.shared.arguments import Parser, finite, utf8
from octavo.shared.errors import ConfigError

ALL_FAILED = 1
WARM_UP = 1


def make_parser() -> Parser:
    parser = Parser(
        "octavo bench",
        usage="octavo bench [serve] [--url URL] [flags]",
        description="Send a running server (ours or another of OpenAI's form) requests of random "
        "tokens, and print throughput and latencies. Outputs are forced to their length.",
    )
    add_address(parser)
    add = parser.add_argument
    add("--model", type=utf8, metavar="NAME", help="Default: the server's first model.")
    add("--num-prompts", type=int, default=1000, metavar="N", help="Requests (1000).")
    add(
        "--request-rate", type=float, default=math.inf, metavar="X", help="A second (inf: at once)."
    )
    add("--burstiness", type=finite, default=1.0, metavar="X", help="1: Poisson; less: in crowds.")
    add("--max-concurrency", type=int, metavar="N", help="Requests under way at most.")
    add("--input-len", "--random-input-len", type=int, default=1024, metavar="N", help="(1024)")
    add("--output-len", "--random-output-len", type=int, default=128, metavar="N", help="(128)")
    add("--range-ratio", "--random-range-ratio", type=float, default=0.0, metavar="X",
        help="Lengths vary by so much of themselves, up and down (0).")  # fmt: skip
    add("--prefix-len", "--random-prefix-len", type=int, default=0, metavar="N",
        help="Further tokens that all prompts begin with (0).")  # fmt: skip
    add("--vocab", type=int, default=4000, metavar="N", help="Ids are below it (4000).")
    add("--temperature", type=finite, default=0.0, metavar="X", help="(0)")
    add("--seed", type=int, default=0, metavar="N", help="Another seed, other prompts.")
    add("--goodput", nargs="+", default=[], metavar="NAME:MS",
        help="Limits to be met: ttft:500 tpot:50 e2el:9000.")  # fmt: skip
    add("--percentile-metrics", default="ttft,tpot,itl", metavar="NAMES",
        help="Of ttft, tpot, itl, e2el (ttft,tpot,itl).")  # fmt: skip
    add("--metric-percentiles", default="99", metavar="N,N", help="(99)")
    add("--save-result", type=Path, metavar="FILE", help="Write the figures as JSON.")
    return parser


def bench(argv: list[str], environ: Mapping[str, str]) -> int:
    """0, 1 where every request failed. Raises StartError without a server, or for bad flags."""
    args = make_parser().parse_args(argv[1:] if argv[:1] == ["serve"] else argv)
    metrics, percentiles = read_metrics(args), read_percentiles(args.metric_percentiles)
    slo = read_goodput(args.goodput)
    workload = read_workload(args)
    address = Address.of(args, environ)
    model = find_model(address, args)
    timings, seconds = measure(address, model, workload, args)
    run = Run(
        timings=timings,
        seconds=seconds,
        slo=slo,
        goodput=bool(args.goodput),
        percentiles=percentiles,
        rate=args.request_rate,
        concurrency=args.max_concurrency,
    )
    print("\n".join(table(run, metrics)), flush=True)
    for error in run.errors:
        print(f"octavo: error: {error}", file=sys.stderr)
    if args.save_result is not None:
        save(args.save_result, run, args, model)
    return 0 if run.good else ALL_FAILED


def read_workload(args: argparse.Namespace) -> Workload:
    """Raises ConfigError for what cannot be sent."""
    for name in ("num_prompts", "input_len", "output_len"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be 1 at least")
    if args.vocab <= FIRST_ID:
        raise ConfigError(f"--vocab must be above {FIRST_ID}: the ids below are left out")
    if args.max_concurrency is not None and args.max_concurrency < 1:
        raise ConfigError("--max-concurrency must be 1 at least")
    if not (args.request_rate > 0 and args.burstiness > 0 and 0 <= args.range_ratio < 1):
        raise ConfigError("--request-rate and --burstiness must be above 0, --range-ratio below 1")
    return Workload(
        requests=args.num_prompts,
        inputs=_around(args.input_len, args.range_ratio),
        outputs=_around(args.output_len, args.range_ratio),
        vocab=args.vocab,
        temperature=args.temperature,
        shared_prefix=max(args.prefix_len, 0),
    )


def _around(length: int, ratio: float) -> Uniform:
    return Uniform(max(int(length * (1 - ratio)), 1), math.ceil(length * (1 + ratio)))


def read_metrics(args: argparse.Namespace) -> list[str]:
    names = [name.strip() for name in args.percentile_metrics.split(",") if name.strip()]
    if unknown := [name for name in names if name not in METRICS]:
        raise ConfigError(f"--percentile-metrics: {unknown[0]} is none of {', '.join(METRICS)}")
    return names


def read_percentiles(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [-1.0]
    if not all(0 <= share <= 100 for share in found):
        raise ConfigError(f"--metric-percentiles: {text} is no list of numbers from 0 to 100")
    return found


def read_goodput(pairs: Sequence[str]) -> Slo:
    """`ttft:500`, in milliseconds."""
    limits: dict[str, float] = {}
    for pair in pairs:
        name, _, text = pair.partition(":")
        try:
            limits[f"{name}_ms"] = float(text)
        except ValueError:
            raise ConfigError(f"--goodput: {pair} is not NAME:MILLISECONDS") from None
    try:
        return Slo(**limits)
    except TypeError:
        raise ConfigError("--goodput knows ttft, tpot and e2el") from None


def find_model(address: Address, args: argparse.Namespace) -> str:
    """Its name. Raises StartError where nobody answers, or its context is too short."""
    with address.connect() as client:
        try:
            answer = client.get("/v1/models", timeout=10.0)
        except httpx.RequestError as error:
            raise address.nobody() from error
        if answer.status_code != 200:
            raise Refused(said(answer))
        cards = _cards(answer)
    card = next((card for card in cards if card.get("id") == args.model), cards[0])
    needed = args.input_len + args.output_len + max(args.prefix_len, 0)
    if (limit := card.get("max_model_len")) is not None and needed > limit:
        raise ConfigError(
            f"requests of {needed} tokens are longer than the server's {limit}: lower --input-len "
            "or --output-len"
        )
    return str(args.model or card.get("id", ""))


def _cards(answer: httpx.Response) -> list[dict[str, Any]]:
    try:
        return list(answer.json()["data"]) or [{}]
    except (ValueError, LookupError, TypeError) as error:
        raise Refused(f"{answer.url} lists no models") from error


def measure(
    address: Address, model: str, workload: Workload, args: argparse.Namespace
) -> tuple[list[Any], float]:
    """Timings of all requests, and the seconds for all; a first request warms up."""
    target = Target(address.url, address.key)
    bodies = workload.bodies(model, str(args.seed))
    moments = arrivals(len(bodies), args.request_rate, str(args.seed), args.burstiness)
    raise_file_limit(args.max_concurrency or len(bodies))
    first = workload.bodies(model, f"warm-up {args.seed}")[:WARM_UP]
    asyncio.run(stream_all(target, first, [0.0] * len(first), None))
    with tqdm(total=len(bodies), disable=not sys.stderr.isatty(), unit="req") as bar:
        return asyncio.run(stream_all(target, bodies, moments, args.max_concurrency, bar.update))


def save(path: Path, run: Run, args: argparse.Namespace, model: str) -> None:
    settings = {
        "date": time.strftime("%Y%m%d-%H%M%S"),
        "backend": "openai",
        "model_id": model,
        "num_prompts": args.num_prompts,
        "request_rate": "inf" if math.isinf(args.request_rate) else args.request_rate,
        "burstiness": args.burstiness,
        "max_concurrency": args.max_concurrency,
        "input_len": args.input_len,
        "output_len": args.output_len,
    }
    try:
        path.write_text(json.dumps({**settings, **run.figures()}, indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
