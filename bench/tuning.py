"""What the four settings that matter do: throughput and latencies for some values of each.

    python bench/tuning.py MODEL [--flags "--load-format dummy --max-model-len 8192"] [--json FILE]
        [--plot FILE.png] [--rate 12] [--requests 256]

For each value a server of its own is started, and asked twice: for all requests at once (tokens a
second) and at a rate (TTFT, time between tokens). docs/tuning.md has the curves of one H200.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.load.report import load_pyplot
from octavo.services.client.load.figures import Slo, summary
from octavo.services.client.load.streams import Target, raise_file_limit, stream_all
from octavo.services.client.load.workload import Workload, arrivals, read_lengths

SETTINGS: dict[str, list[str]] = {
    "max-num-seqs": ["32", "64", "128", "256", "512"],
    "max-num-batched-tokens": ["1024", "2048", "8192", "16384"],
    "block-size": ["16", "32", "64"],
    "gpu-memory-utilization": ["0.2", "0.4", "0.9"],
}


@contextlib.contextmanager
def serving(model: str, flags: list[str]) -> Iterator[tuple[str, str]]:
    """(address, ready line) of a server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-P", "-m", "octavo.services.launch", "serve", model, *flags]
    server = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        ready = server.stdout.readline().strip()
        yield f"http://127.0.0.1:{port}", ready
    finally:
        server.terminate()
        server.wait(60)


def measured(url: str, args: argparse.Namespace) -> dict[str, Any]:
    target = Target(url, "")
    model = target.model()
    workload = Workload(
        args.requests, read_lengths("100:1024"), read_lengths("100:400"), 4000, 0.6, 0
    )
    warm_up = workload.bodies(model, "warm-up")[:8]
    asyncio.run(stream_all(target, warm_up, [0.0] * len(warm_up), None))
    found = {}
    for name, rate in (("at once", math.inf), ("at a rate", args.rate)):
        bodies = workload.bodies(model, name)
        moments = arrivals(args.requests, rate, name)
        report = summary(*asyncio.run(stream_all(target, bodies, moments, None)), Slo())
        found[name] = report
    return found


def facts(reports: dict[str, Any]) -> dict[str, float]:
    """The columns."""
    once, rate = reports["at once"], reports["at a rate"]
    return {
        "tokens/s": once["output_tokens_per_s"],
        "TTFT p50": rate["ttft_ms"]["p50"],
        "TTFT p99": rate["ttft_ms"]["p99"],
        "ITL p50": rate["itl_ms"]["p50"],
        "ITL p99": rate["itl_ms"]["p99"],
    }


def sweep(args: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for setting in args.settings:
        for value in SETTINGS[setting]:
            flags = [*shlex.split(args.flags), f"--{setting}", value]
            with serving(args.model, flags) as (url, ready):
                row = {"setting": setting, "value": value, **facts(measured(url, args))}
            rows.append({**row, "ready": ready})
            numbers = "  ".join(f"{row[name]:9.1f}" for name in list(row)[2:])
            print(f"{setting:24}{value:>8}  {numbers}", flush=True)
            if args.json:
                args.json.write_text(json.dumps(rows, indent=1))
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """A picture for each setting: tokens a second, and the latencies."""
    pyplot = load_pyplot()
    names = list(dict.fromkeys(row["setting"] for row in rows))
    figure, axes = pyplot.subplots(1, len(names), figsize=(4 * len(names), 3.4))
    for axis, name in zip(axes, names, strict=True):
        same = [row for row in rows if row["setting"] == name]
        labels = [row["value"] for row in same]
        axis.plot(labels, [row["tokens/s"] for row in same], "o-", color="tab:blue")
        axis.set(title=name, ylabel="tokens/s (at once)", ylim=(0, None))
        other = axis.twinx()
        for column, style in (("TTFT p50", "s--"), ("ITL p99", "^--")):
            other.plot(labels, [row[column] for row in same], style, label=column, alpha=0.7)
        other.set(ylabel="ms (at a rate)", ylim=(0, None))
        other.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--flags", default="", help="of every server")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--rate", type=float, default=12.0, help="requests a second")
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


def main() -> None:
    args = parse()
    raise_file_limit(args.requests)
    began = time.monotonic()
    rows = sweep(args)
    print(f"{time.monotonic() - began:.0f} s")
    if args.plot:
        draw(rows, args.plot)


if __name__ == "__main__":
    main()
