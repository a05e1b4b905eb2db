"""On a GPU the server has what the plan said, within 3 %."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from octavo_server import serving

from bench.shapes import write
from octavo.services.plan.command import make_plan
from octavo.services.supervisor.settings import read_settings

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(
    "flags", [[], ["--max-num-batched-tokens", "2048", "--max-num-seqs", "64"]]
)
def test_kv_tokens(flags: list[str], tmp_path: Path) -> None:
    write("qwen3-0.6b", tmp_path)
    argv = [str(tmp_path), "--load-format", "dummy", "--gpu-memory-utilization", "0.3", *flags]
    planned = make_plan(read_settings(argv, {}).server, None, [1000], {})
    with serving(*argv) as server:
        ready = next(line for line in server.lines if line.startswith("Ready in"))
    said = re.search(r"kv=([\d,]+) tokens", ready)
    assert said is not None
    assert planned.kv_tokens == pytest.approx(int(said[1].replace(",", "")), rel=0.03)
