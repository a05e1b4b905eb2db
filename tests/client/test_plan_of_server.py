"""What `octavo plan` says beforehand is what the server then has."""

from __future__ import annotations

import json
import re

import pytest
from octavo_server import Server, usual

from octavo.services.plan.command import plan


def test_kv_tokens_and_concurrency(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--device", "cpu"]
    assert plan([*flags, "--json"], usual(flags)) == 0
    found = json.loads(capsys.readouterr().out)
    ready = next(line for line in server.lines if line.startswith("Ready in"))
    said = re.search(r"context=(\d+)  kv=([\d,]+) tokens \(([\d.]+)x", ready)
    assert said is not None
    assert found["max_model_len"] == int(said[1])
    assert found["kv_tokens"] == int(said[2].replace(",", ""))
    assert f"{found['max_concurrency']:.1f}" == said[3]
