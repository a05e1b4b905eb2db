"""`octavo bench` against a real server: vLLM's table, its result file, and refusals."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
from octavo_server import Server

from octavo.services.client.load.figures import Slo
from octavo.services.client.load.outcome import Run, table
from octavo.services.client.load.streams import Timing
from octavo.services.client.load.workload import arrivals
from octavo.services.launch import run

SMALL = ("--num-prompts", "8", "--input-len", "20", "--output-len", "6")


def test_table_and_file(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "result.json"
    flags = ["--request-rate", "50", "--burstiness", "0.5", "--max-concurrency", "4"]
    flags += ["--goodput", "ttft:60000", "tpot:60000", "--save-result", str(file)]
    flags += ["--percentile-metrics", "ttft,e2el", "--metric-percentiles", "50,99.9"]
    assert run(["bench", "serve", "--base-url", server.url, *SMALL, *flags], {}) == 0
    shown = capsys.readouterr().out
    rows = [line.split(":") for line in shown.splitlines() if ":" in line]
    lines = {name: value.strip() for name, value in rows}
    assert lines["Successful requests"] == "8"
    assert lines["Total input tokens"] == "160"
    assert lines["Total generated tokens"] == "48"
    assert lines["Request goodput (req/s)"] == lines["Request throughput (req/s)"]
    assert "P99.9 E2EL (ms)" in lines and "Mean ITL (ms)" not in lines
    found = json.loads(file.read_text())
    assert found["completed"] == 8 and found["p99.9_ttft_ms"] > 0 and found["model_id"] == "demo"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--input-len", "4000"], "longer than the server's 2048"),
        (["--num-prompts", "0"], "--num-prompts must be 1"),
        (["--goodput", "ttft"], "not NAME:MILLISECONDS"),
        (["--goodput", "speed:3"], "ttft, tpot and e2el"),
        (["--percentile-metrics", "x"], "x is none of ttft"),
        (["--metric-percentiles", "101"], "from 0 to 100"),
        (["--request-rate", "0"], "--request-rate"),
    ],
)
def test_refusals(
    flags: list[str], says: str, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "--url", server.url, *flags], {}) == 2
    assert says in capsys.readouterr().err


def test_every_request_failed(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--url", server.url, "--model", "none", *SMALL], {}) == 1
    said = capsys.readouterr()
    assert "Failed requests:                         8" in said.out
    assert "8 x " in said.err and "404" in said.err


def timing(sent: float, *arrivals: float, tokens: int = 3) -> Timing:
    return Timing(sent, list(arrivals), tokens, None, 5)


def test_figures() -> None:
    good = [timing(0.0, 0.1, 0.2, 0.3), timing(0.25, 0.5, 1.0, 1.5)]
    bad = Timing(0.0, error="x")
    ended = Run([*good, bad], 2.0, Slo(ttft_ms=200), True, [99], math.inf, None)
    found = ended.figures()
    assert (found["completed"], found["failed"], found["request_goodput"]) == (2, 1, 0.5)
    assert (found["max_output_tokens_per_s"], found["max_concurrent_requests"]) == (4, 2)
    assert found["output_throughput"] == 3.0 and found["total_token_throughput"] == 8.0
    assert found["median_tpot_ms"] == pytest.approx(300)
    assert all(len(line) >= 50 for line in table(ended, ["ttft", "tpot", "itl", "e2el"]))
    assert ended.errors == ["1 x x"]


def test_burstiness_keeps_the_rate() -> None:
    def spread(burstiness: float) -> float:
        moments = arrivals(4000, 10.0, "0", burstiness)
        gaps = [b - a for a, b in itertools.pairwise(moments)]
        mean = sum(gaps) / len(gaps)
        assert mean == pytest.approx(0.1, rel=0.1)
        return math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) / mean

    assert spread(0.25) > 1.5 > spread(1.0) > 0.8 > spread(10)
