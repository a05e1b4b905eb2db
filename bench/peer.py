"""vLLM's own JSON as records: an offline run's, and that of `vllm bench serve --save-result`.

An offline run is read in this form, any part of which may be absent:

    {"gpu": NAME,
     "ttft": {"2048": {"first_token": {"median_ms": 52.6, "min_ms": .., "max_ms": ..}}},
     "decode": {"256": {"step": {"median_ms": 17.4}}},
     "throughput": [{"output_tok_per_s": 11352.0}]}

A sweep of FlashAttention 3 is text, a line for each batch and page size; the best page counts:

    decode 8x1k page 16 us 17.1 TB/s 1.96
    prefill 2048 ms 0.077 TF 447.0

So is a run of nano-vllm's workload:

    NANO tokens 133966 s 5.58 tok/s 24000.1
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from bench.results import Record

SERVED = {
    "throughput": ("output_throughput", "tok/s"),
    "ttft_p50": ("median_ttft_ms", "ms"),
    "ttft_p99": ("p99_ttft_ms", "ms"),
    "tpot_p50": ("median_tpot_ms", "ms"),
    "itl_p99": ("p99_itl_ms", "ms"),
}
"""End of a record's name -> the field of `vllm bench serve`, and its unit."""
SWEEP = re.compile(r"^(decode|prefill) (\S+) .*?(?:TB/s|TF) ([\d.]+)", re.M)
NANO = re.compile(r"^NANO .*tok/s ([\d.]+)", re.M)
LOADS = {"64x512": "64x0.5k", "2048": "2k", "8192": "8k"}
"""Of a sweep -> the same load in bench/kernels/paged_attention.py, where the name differs."""
DECODE_ROWS = {"1": 1, "32": 2, "256": 3}


def convert(content: dict[str, Any], machine: str) -> list[Record]:
    """Raises ValueError for a file that is neither."""
    machine = content.get("gpu", machine)
    if "output_throughput" in content:
        return list(_served(content, machine))
    if content.keys() & {"ttft", "decode", "throughput"}:
        return list(_offline(content, machine))
    raise ValueError("neither the JSON of an offline run nor of `vllm bench serve`")


def convert_text(text: str, machine: str) -> list[Record]:
    """Raises ValueError for text without a line that says something."""
    rates = [float(rate) for rate in NANO.findall(text)]
    if rates:
        return [_record("nano_vllm", 8, "tok/s", rates, machine, _date({}), "small_model")]
    best: dict[tuple[str, str], float] = {}
    for kind, load, rate in SWEEP.findall(text):
        key = kind, LOADS.get(load, load)
        best[key] = max(best.get(key, 0.0), float(rate))
    if not best:
        raise ValueError("neither JSON, nor a sweep of attention, nor nano-vllm's workload")
    return [_attention(*key, rate, machine) for key, rate in best.items()]


def joined(records: Iterable[Record]) -> list[Record]:
    """The runs of records of one name as one record, as late as the last of them."""
    by_name: dict[str, list[Record]] = {}
    for each in records:
        by_name.setdefault(each.name, []).append(each)
    return [_join(same) for same in by_name.values()]


def _join(same: Sequence[Record]) -> Record:
    runs = [run for each in same for run in each.runs]
    return replace(
        same[0], runs=runs, value=statistics.median(runs), date=max(each.date for each in same)
    )


def _attention(kind: str, load: str, rate: float, machine: str) -> Record:
    date = _date({})
    if kind == "decode":
        return _record(f"decode_attention {load}", 9, "GB/s", [rate * 1e3], machine, date, "sweep")
    name = f"prefill_attention_{load}"
    return _record(name, 10, "TFLOP/s", [rate], machine, date, "sweep")


def _served(content: dict[str, Any], machine: str) -> Iterator[Record]:
    rate = float(content.get("request_rate", "inf"))
    for end, (field, unit) in SERVED.items():
        if field in content:
            name = f"serving_{rate:g}_{end}"
            row = {"inf": 6, "16": 7}.get(f"{rate:g}")
            yield _record(name, row, unit, [content[field]], machine, _date(content), "bench serve")


def _offline(content: dict[str, Any], machine: str) -> Iterator[Record]:
    date = _date(content)
    for length, times in content.get("ttft", {}).items():
        runs = _runs(times["first_token"])
        yield _record(f"ttft_{length}", 4, "ms", runs, machine, date)
    for batch, steps in content.get("decode", {}).items():
        runs = [steps["step"]["median_ms"]]
        row = DECODE_ROWS.get(batch)
        yield _record(f"decode_step_{batch}", row, "ms", runs, machine, date)
    rates = [run["output_tok_per_s"] for run in content.get("throughput", [])]
    if rates:
        yield _record("offline_uniform", 5, "tok/s", rates, machine, date)


def _runs(times: dict[str, float]) -> list[float]:
    """A summary keeps no single runs: its median between its ends."""
    names = ("min_ms", "median_ms", "max_ms")
    return [times[name] for name in names if name in times]


def _date(content: dict[str, Any]) -> str:
    """`vllm bench serve` says it as 20261123-031500; others not at all: now."""
    try:
        date = datetime.strptime(content["date"], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except (KeyError, ValueError):
        date = datetime.now(UTC)
    return date.isoformat(timespec="seconds")


def _record(
    name: str,
    row: int | None,
    unit: str,
    runs: Sequence[float],
    machine: str,
    date: str,
    command: str = "offline",
) -> Record:
    return Record(
        name=name,
        row=row,
        value=statistics.median(runs),
        unit=unit,
        runs=list(runs),
        machine=machine,
        command=f"vllm {command}",
        date=date,
        commit="",
        engine="vllm",
    )
