"""Where Octavo stands: the goals, vLLM's figures, and what was measured here, as Markdown.

    python bench/compare.py [bench/results]
    python bench/compare.py --convert FILE ... [--machine NAME] --json bench/results/vllm.json

The second form turns what vLLM's own runs wrote (bench/peer.py names the forms; `vllm bench
serve --save-result` is one) into records. Of several records of one name the newest counts;
vLLM's figure is the one in the table below until it has been measured too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.peer import convert, convert_text, joined
from bench.results import ROOT, Engine, Record, add_json_option, load, save


@dataclass(frozen=True)
class Goal:
    row: int
    what: str
    name: str
    """Of the record."""
    unit: str
    sign: Literal["<=", ">="]
    goal: float
    peer: float | None = None


GOALS = [
    Goal(1, "decode step, batch 1, context 1k", "decode_step_1", "ms", "<=", 4.0, 4.91),
    Goal(2, "decode step, batch 32", "decode_step_32", "ms", "<=", 5.2, 6.26),
    Goal(3, "decode step, batch 256", "decode_step_256", "ms", "<=", 15.0, 17.4),
    Goal(4, "TTFT, 2,048 tokens", "ttft_2048", "ms", "<=", 45, 52.6),
    Goal(4, "TTFT, 8,192 tokens", "ttft_8192", "ms", "<=", 190, 217),
    Goal(5, "offline, 512 requests, uniform", "offline_uniform", "tok/s", ">=", 13_600, 11_352),
    Goal(6, "serving, all at once", "serving_inf_throughput", "tok/s", ">=", 13_300, 11_139),
    Goal(6, "serving, all at once, TPOT", "serving_inf_tpot_p50", "ms", "<=", 29, 34.5),
    Goal(7, "serving, 16/s, TTFT p50", "serving_16_ttft_p50", "ms", "<=", 48, 58.9),
    Goal(7, "serving, 16/s, TTFT p99", "serving_16_ttft_p99", "ms", "<=", 100, 124),
    Goal(7, "serving, 16/s, TPOT", "serving_16_tpot_p50", "ms", "<=", 8.0, 9.62),
    Goal(7, "serving, 16/s, ITL p99", "serving_16_itl_p99", "ms", "<=", 22, 31.3),
    Goal(8, "Qwen3-0.6B, 256 requests", "nano_vllm", "tok/s", ">=", 29_000, 24_000),
    Goal(9, "decode attention against FA3, worst", "decode_attention_vs_fa3", "x", ">=", 0.97),
    Goal(10, "prefill attention, 2k", "prefill_attention_2k", "TFLOP/s", ">=", 430, 447),
    Goal(10, "prefill attention, 8k", "prefill_attention_8k", "TFLOP/s", ">=", 600, 638),
    Goal(11, "top-k and top-p, 512 rows", "sampling_filtered_512", "ms", "<=", 0.30),
    Goal(11, "top-k and top-p, 128 rows", "sampling_filtered_128", "ms", "<=", 0.14),
    Goal(11, "top-k and top-p, 1 row", "sampling_filtered_1", "ms", "<=", 0.05),
    Goal(11, "plain sampling, 512 rows", "sampling_plain_512", "ms", "<=", 0.09),
    Goal(12, "GPU idle, 8B, batch 256", "gpu_idle_8b", "%", "<=", 2),
    Goal(12, "GPU idle, 0.6B", "gpu_idle_0.6b", "%", "<=", 6),
    Goal(13, "start to first token", "startup_first_token", "s", "<=", 10, 77),
    Goal(14, "scheduler step, 256 running", "scheduler_step_256", "us", "<=", 60),
    Goal(14, "scheduler step, 1,024 running", "scheduler_step_1024", "us", "<=", 120),
    Goal(15, "against transformers' generate", "vs_transformers", "x", ">=", 24),
    Goal(16, "prefix caching, cost at 0 % hits", "prefix_cache_cost", "%", "<=", 1),
    Goal(16, "shared-prefix decode", "shared_prefix_decode", "x", ">=", 3),
    Goal(16, "TTFT, all 8k in the cache", "ttft_full_hit_8192", "ms", "<=", 15),
]
DECODE_ATTENTION = "decode_attention "
Table = dict[tuple[Engine, str], Record]


def newest(records: Iterable[Record]) -> Table:
    """By engine and name; of equal dates the later in the list."""
    return {(each.engine, each.name): each for each in sorted(records, key=lambda r: r.date)}


def derived(table: Table) -> dict[str, float]:
    """What is a ratio of two records."""
    found: dict[str, float] = {}
    ours = table.get(("octavo", "offline_uniform"))
    theirs = table.get(("transformers", "offline_uniform"))
    if ours and theirs:
        found["vs_transformers"] = ours.value / theirs.value
    ratios = [
        record.value / peer.value
        for (engine, name), record in table.items()
        if engine == "octavo" and name.startswith(DECODE_ATTENTION)
        if (peer := table.get(("vllm", name)))
    ]
    if ratios:
        found["decode_attention_vs_fa3"] = min(ratios)
    return found


def row(goal: Goal, table: Table, ratios: dict[str, float]) -> list[str]:
    record, peer = table.get(("octavo", goal.name)), table.get(("vllm", goal.name))
    value = record.value if record else ratios.get(goal.name)
    their = peer.value if peer else goal.peer
    reached = value is not None and (
        value <= goal.goal if goal.sign == "<=" else value >= goal.goal
    )
    return [
        str(goal.row),
        goal.what,
        "" if their is None else f"{number(their)} {goal.unit}{spread(peer.runs) if peer else ''}",
        f"{goal.sign} {number(goal.goal)} {goal.unit}",
        "" if value is None else number(value) + (spread(record.runs) if record else ""),
        "" if value is None else "yes" if reached else "no",
    ]


def number(value: float) -> str:
    """Four digits at most where there is a fraction."""
    decimals = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2
    return f"{value:,.{decimals}f}"


def spread(runs: Sequence[float]) -> str:
    if len(runs) < 2:
        return " (1 run)"
    return f" ({number(min(runs))} to {number(max(runs))}, {len(runs)} runs)"


def markdown(records: Iterable[Record]) -> str:
    table = newest(records)
    ratios = derived(table)
    head = ["row", "what", "vLLM", "goal", "Octavo (spread)", "reached"]
    rows = [head, ["---"] * len(head), *(row(goal, table, ratios) for goal in GOALS)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def converted(text: str, machine: str) -> list[Record]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        return convert_text(text, machine)
    return convert(content, machine)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "bench" / "results")
    parser.add_argument("--convert", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--machine", default="unknown", help="where vLLM's figures are from")
    add_json_option(parser)
    args = parser.parse_args()
    if not args.convert:
        print(markdown(load(args.folder)))
        return
    texts = [path.read_text() for path in args.convert]
    save(args.json, joined(each for text in texts for each in converted(text, args.machine)))


if __name__ == "__main__":
    main()
