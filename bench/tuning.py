"""What the four settings that matter do: throughput and latencies for some values of each.

    python bench/shapes.py llama-3.1-8b DIR
    python bench/tuning.py DIR --flags "--load-format dummy --max-model-len 8192" --json FILE
        [--settings max-num-seqs block-size] [--rate 96] [--requests 1024]
    python bench/tuning.py --draw FILE --plot FILE.png

For each value a server of its own is started, the other settings at their defaults, and asked more
than it can answer: requests come at a rate above what any of them bears, so that settings which
bound a step are felt. docs/tuning.md has the curves of one H200. `--draw` needs no GPU.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.load.report import load_pyplot
from octavo.services.client.load.figures import Slo, summary
from octavo.services.client.load.streams import Target, raise_file_limit, stream_all
from octavo.services.client.load.workload import Workload, arrivals, read_lengths

SETTINGS: dict[str, list[str]] = {
    "max-num-seqs": ["32", "128", "256", "512"],
    "max-num-batched-tokens": ["1024", "2048", "8192"],
    "gpu-memory-utilization": ["0.2", "0.3", "0.92"],
    "block-size": ["16", "32", "64"],
}
"""The last of each is the default on a GPU."""
DEFAULTS = {name: values[-1] for name, values in SETTINGS.items()}
INPUTS, OUTPUTS = "100:512", "50:150"
PANELS = {
    "tokens/s": ["tokens/s"],
    "first token, s": ["TTFT p50", "TTFT p99"],
    "between tokens, ms": ["ITL p50", "ITL p99"],
}
PREEMPTIONS = re.compile(r"^vllm:num_preemptions_total\{.*\} (\S+)$", re.M)


@contextlib.contextmanager
def serving(model: str, flags: list[str]) -> Iterator[tuple[str, str]]:
    """(address, ready line) of a server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = ["--no-access-log", "--log-level", "WARNING", "--port", str(port)]
    command = [sys.executable, "-P", "-m", "octavo.services.launch", "serve", model, *flags, *quiet]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        if not (ready := server.stdout.readline().strip()):
            raise SystemExit(f"{shlex.join(command)} did not start")
        yield f"http://127.0.0.1:{port}", ready
    finally:
        server.terminate()
        server.wait(60)


def measured(url: str, args: argparse.Namespace) -> dict[str, Any]:
    """The columns of a row."""
    target = Target(url, "")
    model = target.model()
    lengths = read_lengths(INPUTS), read_lengths(OUTPUTS)
    workload = Workload(args.requests, *lengths, args.vocab, temperature=0.6)
    warm_up = workload.bodies(model, "warm-up")[:16]
    asyncio.run(stream_all(target, warm_up, [0.0] * len(warm_up), None))
    bodies, moments = workload.bodies(model, "load"), arrivals(args.requests, args.rate, "load")
    report = summary(*asyncio.run(stream_all(target, bodies, moments, None)), Slo())
    with urllib.request.urlopen(f"{url}/metrics") as page:
        preempted = PREEMPTIONS.findall(page.read().decode())
    return {
        "tokens/s": report["output_tokens_per_s"],
        "TTFT p50": report["ttft_ms"]["p50"],
        "TTFT p99": report["ttft_ms"]["p99"],
        "ITL p50": report["itl_ms"]["p50"],
        "ITL p99": report["itl_ms"]["p99"],
        "failed": report["failed"],
        "preempted": sum(map(float, preempted)),
    }


def sweep(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each value. The server with every default is measured once, and is in each."""
    usual: dict[str, Any] = {}
    for setting in args.settings:
        for value in reversed(SETTINGS[setting]):
            row = usual if value == DEFAULTS[setting] else {}
            if not row:
                chosen = {**DEFAULTS, setting: value}
                flags = [word for name, one in chosen.items() for word in (f"--{name}", one)]
                with serving(args.model, [*shlex.split(args.flags), *flags]) as (url, ready):
                    row = {**measured(url, args), "ready": ready}
            if value == DEFAULTS[setting]:
                usual = row
            yield {"setting": setting, "value": value, **row}


def said(row: dict[str, Any]) -> str:
    numbers = "  ".join(f"{value:9.1f}" for value in row.values() if isinstance(value, int | float))
    return f"{row['setting']:24}{row['value']:>8}  {numbers}"


def run(args: argparse.Namespace) -> dict[str, Any]:
    load = (
        f"{args.requests:,} requests at {args.rate:g} a second, {INPUTS} tokens in, {OUTPUTS} out"
    )
    found: dict[str, Any] = {"load": load, "rows": []}
    for row in sweep(args):
        found["rows"].append(row)
        print(said(row), flush=True)
        if args.json:
            args.json.write_text(json.dumps(found, indent=1) + "\n")
    return found


def draw(found: dict[str, Any], path: Path) -> None:
    """A column for each setting, a row for each panel; the defaults are on the right."""
    pyplot = load_pyplot()
    names = list(dict.fromkeys(row["setting"] for row in found["rows"]))
    size = (3.4 * len(names), 2.4 * len(PANELS))
    figure, axes = pyplot.subplots(len(PANELS), len(names), figsize=size, squeeze=False)
    for column, name in zip(axes.T, names, strict=True):
        rows = [row for row in found["rows"] if row["setting"] == name]
        rows.sort(key=lambda row: float(row["value"]))
        for axis, title in zip(column, PANELS, strict=True):
            panel(axis, title, rows)
        column[0].set_title(f"--{name}")
    for axis, title in zip(axes[:, 0], PANELS, strict=True):
        axis.set_ylabel(title)
    figure.suptitle(found["load"], fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def panel(axis: Any, title: str, rows: list[dict[str, Any]]) -> None:
    scale = 1e-3 if title.endswith(", s") else 1.0
    labels = [row["value"] for row in rows]
    for name, style in zip(PANELS[title], ("o-", "^--"), strict=False):
        axis.plot(labels, [scale * row[name] for row in rows], style, label=name)
    axis.set_ylim(0, 1.15 * axis.get_ylim()[1])
    if len(PANELS[title]) > 1:
        axis.legend(fontsize=7)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?")
    parser.add_argument("--flags", default="", help="of every server")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--rate", type=float, default=96.0, help="requests a second")
    parser.add_argument("--requests", type=int, default=1024)
    parser.add_argument("--vocab", type=int, default=4000, help="prompt ids are below this")
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="draw these figures again")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="picture of them")
    args = parser.parse_args()
    if (args.model is None) == (args.draw is None):
        parser.error("give a model to measure, or --draw FILE")
    return args


def main() -> None:
    args = parse()
    if args.plot:
        load_pyplot()  # before the runs, not after them
    raise_file_limit(args.requests)
    began = time.monotonic()
    found = json.loads(args.draw.read_text()) if args.draw else run(args)
    print(f"{time.monotonic() - began:.0f} s")
    if args.plot:
        draw(found, args.plot)


if __name__ == "__main__":
    main()
