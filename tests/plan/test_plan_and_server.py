"""What `octavo plan` says beforehand is what the server then has: within 3 % on a GPU.

    pytest -s -m gpu tests/plan        OCTAVO_TEST_PLAN_JSON=FILE keeps the figures

Each case prints a line of them.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from model_checkpoints import make_checkpoint
from octavo_server import serving, usual

from bench.shapes import write
from octavo.services.plan.command import make_plan
from octavo.services.supervisor.settings import read_settings

MARGIN = 0.03
HALF = "--max-model-len 8192 --max-num-seqs 128 --gpu-memory-utilization 0.5"


def compare(name: str, argv: list[str]) -> float:
    """Planned KV tokens of the device that is here, as a share of those the server has."""
    planned = make_plan(read_settings(argv, usual(argv)).server, None, [1000], {})
    with serving(*argv) as server:
        ready = next(line for line in server.lines if line.startswith("Ready in"))
    said = re.search(r"context=(\d+)  kv=([\d,]+) tokens", ready)
    assert said is not None and planned.max_model_len == int(said[1])
    measured = int(said[2].replace(",", ""))
    record = {"shape": name, "flags": " ".join(argv[1:]), "device": planned.card.name,
              "planned": planned.kv_tokens, "measured": measured,
              "error": round(planned.kv_tokens / measured - 1, 5)}  # fmt: skip
    print(f"plan={json.dumps(record)}")
    if path := os.environ.get("OCTAVO_TEST_PLAN_JSON"):
        with Path(path).open("a") as file:
            file.write(json.dumps(record) + "\n")
    return planned.kv_tokens / measured


@pytest.mark.gpu
@pytest.mark.parametrize("flags", ["--max-model-len 8192", HALF])
@pytest.mark.parametrize("shape", ["llama-3.1-8b", "qwen3-0.6b", "qwen2.5-7b"])
def test_kv_tokens_on_a_gpu(shape: str, flags: str, tmp_path: Path) -> None:
    write(shape, tmp_path)
    argv = [str(tmp_path), "--load-format", "dummy", *flags.split()]
    assert compare(shape, argv) == pytest.approx(1, abs=MARGIN)


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_kv_tokens_on_a_cpu(family: str, tmp_path: Path) -> None:
    """Exactly: nothing is kept back there. The bundled model's are in tests/client."""
    make_checkpoint(family, tmp_path)
    assert compare(family, [str(tmp_path), "--device", "cpu", "--max-num-seqs", "8"]) == 1
