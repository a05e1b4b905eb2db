"""What bench/gpu_trace.py makes of a trace, and what the worker makes of --trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.gpu_trace import Span, gaps, idle_share, read
from octavo.services.worker.step_trace import parse
from octavo.shared.errors import ConfigError


def test_overlapping_work_leaves_no_gap() -> None:
    spans = [Span("a", 0, 10), Span("b", 4, 6), Span("c", 12, 20)]
    assert gaps(spans) == [(10, 2)]
    assert idle_share(spans) == 0.1


def test_only_the_gpu_s_work_is_read(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    events = [
        {"cat": "kernel", "name": "second", "ts": 7, "dur": 2},
        {"cat": "cpu_op", "name": "host", "ts": 0, "dur": 99},
        {"cat": "gpu_memcpy", "name": "first", "ts": 5, "dur": 1},
        {"ph": "M", "name": "process_name"},
    ]
    path.write_text(json.dumps({"traceEvents": events}))
    assert read(path) == [Span("first", 5, 6), Span("second", 7, 9)]


def test_a_trace_is_a_file_and_two_numbers() -> None:
    assert parse("t.json") == ("t.json", 200, 20)
    assert parse("t.json:5") == ("t.json", 5, 20)
    assert parse("t.json:5:3") == ("t.json", 5, 3)
    for wrong in (":5:3", "t.json:x", "a:1:2:3"):
        with pytest.raises(ConfigError):
            parse(wrong)
