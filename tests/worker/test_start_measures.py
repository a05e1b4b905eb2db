"""The line that says where a start's seconds went, and the count of compiled kernels."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import triton
import triton.language as tl

from octavo.services.worker.compile_counter import CompileCounter
from octavo.services.worker.phases import Phases


def test_phases() -> None:
    now = [10.0]
    phases = Phases(lambda: now[0])
    for name, seconds, num_bytes in (("imports", 2.1, 0), ("weights", 3.0, 16_200_000_000)):
        now[0] += seconds
        phases.end(name, num_bytes)
    now[0] += 99
    assert str(phases) == "started in 5.1 s: imports 2.1, weights 3.0 (5.4 GB/s)"


@pytest.fixture
def knobs(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Triton's, to be heard by nobody else."""
    fake = SimpleNamespace(
        compilation=SimpleNamespace(listener=None), cache=SimpleNamespace(dir="/the/cache")
    )
    monkeypatch.setattr(triton, "knobs", fake)
    return fake


def test_counts_what_is_compiled(knobs: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[bool] = []
    knobs.compilation.listener = lambda *, cache_hit, **details: heard.append(cache_hit)
    counter = CompileCounter()
    counter.install()
    for cache_hit in (True, False, False):
        knobs.compilation.listener(
            src=None, metadata={"name": "k"}, metadata_group={}, times=None, cache_hit=cache_hit
        )
    assert (counter.compiled, counter.from_cache, counter.directory) == (
        ["k", "k"],
        1,
        "/the/cache",
    )
    assert str(counter) == "2 kernels compiled, 1 from the cache"
    assert heard == [True, False, False]
    assert caplog.messages == []


def test_says_so_when_somebody_has_to_wait(
    knobs: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    counter = CompileCounter()
    counter.install()
    counter.serving = True
    caplog.set_level(logging.WARNING)
    knobs.compilation.listener(metadata={"name": "k"}, cache_hit=True)
    knobs.compilation.listener(metadata={"name": "k"}, cache_hit=False)
    assert caplog.messages == ["kernel k was compiled while serving"]


def _bump(x) -> None:  # type: ignore[no-untyped-def]
    tl.store(x, tl.load(x) + 1)


@pytest.mark.gpu
def test_it_hears_the_real_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(triton.knobs.compilation, "listener", None)
    counter = CompileCounter()
    counter.install()
    x = torch.ones(1, device="cuda")
    for names, hits in ((1, 0), (1, 1)):
        bump = triton.jit(_bump)  # a new one knows nothing of what the last one has built
        for _ in range(2):
            bump[(1,)](x)
        assert (counter.compiled, counter.from_cache) == (["_bump"] * names, hits)
    assert any(tmp_path.iterdir())
