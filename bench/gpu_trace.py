"""How long the GPU waits between kernels: a trace of decode steps, its idle share, a picture.

    python bench/gpu_trace.py [--model llama-3.1-8b] [--batch 256] [--plot FILE] [--json FILE]
    python bench/gpu_trace.py --read trace.json [--plot FILE]          a trace that is there already

Idle is the time in which no kernel and no copy runs, of the time from the first one's start to the
last one's end. The trace is the server's own (`--trace`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness import Request, add_engine_option, running
from bench.load.report import load_pyplot
from bench.results import add_json_option, record, save

GPU_WORK = ("kernel", "gpu_memcpy", "gpu_memset")
NAMES = {"llama-3.1-8b": "gpu_idle_8b", "qwen3-0.6b": "gpu_idle_0.6b"}
FAMILIES = ("decode", "prefill", "linear", "nvjet", "norm", "rotary", "silu")


@dataclass(frozen=True)
class Span:
    """One piece of GPU work, in microseconds."""

    name: str
    start: float
    end: float


def read(path: Path) -> list[Span]:
    """The GPU's work in a Chrome trace, by start."""
    events: list[dict[str, Any]] = json.loads(path.read_text())["traceEvents"]
    work = [each for each in events if each.get("cat") in GPU_WORK]
    spans = [Span(each["name"], each["ts"], each["ts"] + each["dur"]) for each in work]
    if not spans:
        raise SystemExit(f"{path}: no GPU work in the trace")
    return sorted(spans, key=lambda span: span.start)


def gaps(spans: Sequence[Span]) -> list[tuple[float, float]]:
    """(start, length) of every time without work, spans sorted by start."""
    found, reached = [], spans[0].end
    for span in spans[1:]:
        if span.start > reached:
            found.append((reached, span.start - reached))
        reached = max(reached, span.end)
    return found


def idle_share(spans: Sequence[Span]) -> float:
    length = max(span.end for span in spans) - spans[0].start
    return sum(gap for _, gap in gaps(spans)) / length


def make(args: argparse.Namespace, path: Path) -> None:
    """Decode `batch` requests; the middle of it is traced."""
    steps = args.output
    first = WARM_UP_STEPS + args.output // 2
    engine = {"max_num_seqs": args.batch, "trace": f"{path}:{first}:{args.steps}"}
    with running(args.model, engine | dict(args.engine)) as bench:
        bench.generate([Request(bench.prompt(args.prompt), steps) for _ in range(args.batch)])


WARM_UP_STEPS = 60
"""About as many as the harness's warm-up takes, with the prompts that follow."""


def draw(spans: Sequence[Span], milliseconds: float, target: Path) -> None:
    """The middle of the trace: one bar a kernel, coloured by family, gaps left white."""
    pyplot = load_pyplot()
    middle = spans[len(spans) // 2].start
    shown = [span for span in spans if middle <= span.start <= middle + milliseconds * 1e3]
    figure, axes = pyplot.subplots(figsize=(14, 2.6))
    families = [*FAMILIES, "other"]
    colours = pyplot.get_cmap("tab10").colors
    for index, family in enumerate(families):
        bars = [
            ((span.start - middle) / 1e3, (span.end - span.start) / 1e3)
            for span in shown
            if family_of(span.name) == family
        ]
        axes.broken_barh(bars, (0, 1), facecolors=[colours[index]], label=family)
    axes.set(xlabel="milliseconds", yticks=[], xlim=(0, milliseconds))
    axes.set_title(f"GPU work in steady decode; idle {idle_share(spans):.2%} of the trace")
    axes.legend(ncols=len(families), loc="upper center", bbox_to_anchor=(0.5, -0.25))
    figure.savefig(target, dpi=110, bbox_inches="tight")


def family_of(name: str) -> str:
    return next((family for family in FAMILIES if family in name), "other")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="llama-3.1-8b", help="a shape or a folder")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--output", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20, help="traced")
    parser.add_argument("--read", type=Path, help="a trace that is there already")
    parser.add_argument("--keep", type=Path, help="where the trace is to stay")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--plot-ms", type=float, default=4.0)
    add_engine_option(parser)
    add_json_option(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.read or args.keep or Path(folder) / "trace.json"
        if args.read is None:
            make(args, path)
        spans = read(path)
    longest = sorted((length for _, length in gaps(spans)), reverse=True)[:5]
    print("longest gaps, microseconds:", ", ".join(f"{length:.0f}" for length in longest))
    name = NAMES.get(args.model, "gpu_idle")
    save(args.json, [record(name, 12, "%", [100 * idle_share(spans)])], {"batch": args.batch})
    if args.plot:
        draw(spans, args.plot_ms, args.plot)


if __name__ == "__main__":
    main()
