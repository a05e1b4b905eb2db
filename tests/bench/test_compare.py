"""The table of goals, and vLLM's JSON turned into records."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import compare
from bench.peer import convert
from bench.results import Engine, Record


def record(
    name: str, *runs: float, engine: Engine = "octavo", date: str = "2026-01-01T00:00:00+00:00"
) -> Record:
    value = sorted(runs)[len(runs) // 2]
    return Record(name, 1, value, "", list(runs), "a machine", "python x", date, "abc", engine)


def cells(records: list[Record], name: str) -> list[str]:
    """The row of one record in the table, behind its number."""
    what = next(goal.what for goal in compare.GOALS if goal.name == name)
    lines = compare.markdown(records).splitlines()
    [line] = [line for line in lines if f"| {what} |" in line]
    return [cell.strip() for cell in line.strip("|").split("|")][2:]


def test_rows_one_to_sixteen() -> None:
    assert sorted({goal.row for goal in compare.GOALS}) == list(range(1, 17))
    names = [goal.name for goal in compare.GOALS]
    assert len(set(names)) == len(names)
    assert all(line.count("|") == 7 for line in compare.markdown([]).splitlines())


def test_nothing_measured() -> None:
    assert cells([], "ttft_8192") == ["217.0 ms", "<= 190.0 ms", "", ""]
    assert cells([], "scheduler_step_256") == ["", "<= 60.00 us", "", ""]


@pytest.mark.parametrize(("value", "reached"), [(14.0, "yes"), (15.0, "yes"), (15.1, "no")])
def test_lower_is_better(value: float, reached: str) -> None:
    assert cells([record("decode_step_256", value)], "decode_step_256")[-1] == reached


def test_higher_is_better_and_the_spread() -> None:
    runs = [13_700.0, 13_500.0, 13_900.0]
    assert cells([record("offline_uniform", *runs)], "offline_uniform") == [
        "11,352 tok/s",
        ">= 13,600 tok/s",
        "13,700 (13,500 to 13,900, 3 runs)",
        "yes",
    ]


def test_the_newest_counts_and_vllm_s_own_is_shown() -> None:
    records = [
        record("decode_step_1", 3.9, date="2026-03-01T00:00:00+00:00"),
        record("decode_step_1", 4.5),
        record("decode_step_1", 5.0, engine="vllm"),
    ]
    assert cells(records, "decode_step_1") == [
        "5.00 ms (1 run)",
        "<= 4.00 ms",
        "3.90 (1 run)",
        "yes",
    ]


def test_ratios() -> None:
    records = [
        record("offline_uniform", 12_000),
        record("offline_uniform", 600, engine="transformers"),
        record("decode_attention 8x1k", 2000),
        record("decode_attention 8x1k", 1600, engine="vllm"),
        record("decode_attention 64x4k", 3800),
        record("decode_attention 64x4k", 4000, engine="vllm"),
        record("decode_attention 1x1k", 1),
    ]
    assert cells(records, "vs_transformers")[2:] == ["20.00", "no"]
    assert cells(records, "decode_attention_vs_fa3")[2:] == ["0.95", "no"]


def test_an_offline_run_of_vllm() -> None:
    content = {
        "gpu": "NVIDIA H200",
        "ttft": {"2048": {"first_token": {"min_ms": 52.0, "median_ms": 52.6, "max_ms": 54}}},
        "decode": {"256": {"step": {"median_ms": 17.4, "min_ms": 17}}},
        "throughput": [{"output_tok_per_s": 11352.0}, {"output_tok_per_s": 11400.0}],
    }
    found = {each.name: each for each in convert(content, "unknown")}
    assert {name: each.value for name, each in found.items()} == {
        "ttft_2048": 52.6,
        "decode_step_256": 17.4,
        "offline_uniform": 11376.0,
    }
    assert {each.row for each in found.values()} == {3, 4, 5}
    assert all(each.engine == "vllm" for each in found.values())
    assert all(each.machine == "NVIDIA H200" for each in found.values())


@pytest.mark.parametrize(("rate", "name", "row"), [("inf", "inf", 6), (16.0, "16", 7)])
def test_vllm_bench_serve(rate: object, name: str, row: int) -> None:
    content = {
        "date": "20260102-030405",
        "request_rate": rate,
        "output_throughput": 11139.2,
        "median_ttft_ms": 58.9,
        "p99_ttft_ms": 124.0,
        "median_tpot_ms": 9.62,
        "p99_itl_ms": 31.3,
    }
    found = {each.name: each for each in convert(content, "a machine")}
    assert found[f"serving_{name}_throughput"].value == 11139.2
    assert found[f"serving_{name}_itl_p99"].value == 31.3
    assert {(each.row, each.date) for each in found.values()} == {
        (row, "2026-01-02T03:04:05+00:00")
    }
    assert all(compare.newest(found.values())["vllm", each] for each in found)


SWEEP = """copy TB/s 4.2
decode 64x512 page 16 us 50.0 TB/s 2.5 of copy 0.6
decode 64x512 page 64 us 48.0 TB/s 2.76 of copy 0.66
prefill 2048 ms 0.077 TF 447.0
"""


def test_a_sweep_of_attention() -> None:
    found = {each.name: each for each in compare.converted(SWEEP, "a machine")}
    assert {name: (each.row, each.value) for name, each in found.items()} == {
        "decode_attention 64x0.5k": (9, 2760.0),
        "prefill_attention_2k": (10, 447.0),
    }


@pytest.mark.parametrize("text", ['{"completed": 5}', "not a sweep"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        compare.converted(text, "a machine")


def test_runs_of_several_files_are_one_record(tmp_path: Path, monkeypatch: Any) -> None:
    files = [tmp_path / f"{rate}.json" for rate in (11_000, 11_400, 11_200)]
    for path in files:
        path.write_text(json.dumps({"request_rate": "inf", "output_throughput": int(path.stem)}))
    out = tmp_path / "out" / "vllm.json"
    arguments = ["compare.py", "--convert", *map(str, files), "--json", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    compare.main()
    (found,) = json.loads(out.read_text())["records"]
    assert found["value"] == 11_200
    assert found["runs"] == [11_000, 11_400, 11_200]


def test_nano_vllm_s_workload() -> None:
    text = "start_s 40\nNANO tokens 10 s 1.0 tok/s 24000.5\nNANO tokens 10 s 1.0 tok/s 24100.0\n"
    (found,) = compare.converted(text, "a machine")
    assert (found.name, found.row, found.runs) == ("nano_vllm", 8, [24000.5, 24100.0])
