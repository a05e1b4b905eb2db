"""The line that says where a start's seconds went, and the count of compiled kernels."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import triton
import triton.language as tl
from house_supervisor import wait_until
from model_checkpoints import make_checkpoint

from octavo.llm import LLM, SamplingParams
from octavo.services.worker.compile_counter import CompileCounter
from octavo.services.worker.phases import Phases
from octavo.services.worker.worker import beside
from octavo.shared.errors import ConfigError


def test_phases() -> None:
    now = [10.0]
    phases = Phases(lambda: now[0])
    for name, seconds, detail in (("imports", 2.1, ""), ("weights", 3.0, "5.4 GB/s")):
        now[0] += seconds
        phases.end(name, detail)
    now[0] += 99
    assert str(phases) == "started in 5.1 s: imports 2.1, weights 3.0 (5.4 GB/s)"


def test_work_beside() -> None:
    """Its threads get the interpreter at once while it runs, and its error arrives."""
    usual, may_end = sys.getswitchinterval(), threading.Event()

    def work() -> float:
        may_end.wait(10)
        raise ConfigError("no such tensor")

    done = beside(work)
    assert sys.getswitchinterval() < usual
    may_end.set()
    with pytest.raises(ConfigError, match="no such tensor"):
        done()
    wait_until(lambda: sys.getswitchinterval() == usual)
    assert beside(lambda: 1.5)() == 1.5


@pytest.mark.gpu
def test_reading_beside_the_warm_up_changes_no_answer(tmp_path: Path) -> None:
    """A server whose kernels ran on half-read weights says what the CPU's says."""
    make_checkpoint("llama", tmp_path)
    answers = []
    for device in ("cuda", "cpu"):
        with LLM(str(tmp_path), device=device, dtype="float32", max_model_len=64) as llm:
            prompt = {"prompt_token_ids": [5, 6, 7]}
            params = SamplingParams(temperature=0.0, max_tokens=16)
            [output] = llm.generate([prompt], params, use_tqdm=False)
            answers.append(output.outputs[0].token_ids)
    assert answers[0] == answers[1]


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
