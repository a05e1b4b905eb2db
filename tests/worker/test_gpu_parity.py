"""The same parity on a GPU: Triton kernels and CUDA graphs instead of the reference path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from engine_harness import Harness
from model_checkpoints import VARIANTS, VOCAB, make_checkpoint

from octavo.kernels.prefix_plan import PrefixGroup
from octavo.services.worker import shared_prefixes
from octavo.services.worker.compile_counter import CompileCounter
from octavo.services.worker.model_runner import Launched
from octavo.services.worker.slots import Rows
from octavo.services.worker.warm_up import warm_up
from octavo.shared.sampling import SamplingParams
from octavo.shared.steps import StepPlan

pytestmark = pytest.mark.gpu
PROMPTS = [
    torch.randint(0, VOCAB, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    for length in (1, 5, 17, 33, 39)
]
PARAMS = [
    SamplingParams(temperature=0.0, max_tokens=24),
    SamplingParams(temperature=0.9, seed=3, max_tokens=24),
    SamplingParams(temperature=0.9, top_k=20, top_p=0.9, min_p=0.01, seed=4, max_tokens=24),
    SamplingParams(temperature=0.0, max_tokens=24, repetition_penalty=1.2, presence_penalty=0.3),
    SamplingParams(temperature=0.0, max_tokens=24, min_tokens=20, logit_bias={7: 2.0}),
]


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_float32_ids_equal_the_cpu_s(name: str, tmp_path: Path) -> None:
    make_checkpoint(name, tmp_path)
    common: dict[str, Any] = {"max_model_len": 64, "max_num_seqs": 8}
    expected = [a.token_ids for a in Harness(tmp_path, **common).generate(PROMPTS, PARAMS)]
    for changes in ({"graphs": True}, {"budget": 7}, {"block_size": 64, "graphs": True}):
        ours = Harness(tmp_path, device="cuda", **{**common, **changes})
        for _ in range(2):  # the second time prefixes are cached
            answers = ours.generate(PROMPTS, PARAMS)
            assert [answer.token_ids for answer in answers] == expected


@pytest.mark.parametrize("graphs", [True, False])
def test_rows_that_share_a_beginning_attend_to_it_together(
    graphs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same ids as alone, and it did happen."""
    monkeypatch.setattr(shared_prefixes, "MIN_TOKENS", 64)
    monkeypatch.setattr(shared_prefixes, "MIN_SAVED", 64)
    make_checkpoint("llama", tmp_path)
    common = [7 * index % VOCAB for index in range(150)]
    prompts = [[*common, *own] for own in ([1], [2, 3], [4] * 20, [5, 6, 7])]
    params = [SamplingParams(temperature=0.0, max_tokens=24)] * len(prompts)
    sizes: dict[str, Any] = {"max_model_len": 256, "max_num_seqs": 8}
    expected = [a.token_ids for a in Harness(tmp_path, **sizes).generate(prompts, params)]
    ours = Harness(tmp_path, device="cuda", graphs=graphs, **sizes)
    prefixes = ours.runner.prefixes
    assert prefixes is not None
    find, found = prefixes.groups, []

    def watched(rows: Rows) -> list[PrefixGroup]:
        found.append(find(rows))
        return found[-1]

    monkeypatch.setattr(prefixes, "groups", watched)
    for _ in range(2):
        assert [a.token_ids for a in ours.generate(prompts, params)] == expected
    assert max(len(group.rows) for groups in found for group in groups) == len(prompts)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_bfloat16_is_as_close_as_transformers(name: str, tmp_path: Path) -> None:
    """Our bf16 logits are about as far from float32's as transformers' bf16 logits are."""
    model = make_checkpoint(name, tmp_path)
    prompt = PROMPTS[-1]
    ids = torch.tensor([prompt])
    with torch.no_grad():
        exact = model(ids).logits[0]
        theirs = model.to("cuda", torch.bfloat16)(ids.cuda()).logits[0].float().cpu()
    harness = Harness(tmp_path, max_model_len=64, device="cuda", dtype=torch.bfloat16)
    ours = harness.forward(prompt).cpu()
    assert (ours - exact).norm() < 1.3 * (theirs - exact).norm() + 1e-3 * exact.norm()


WIDE: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "head_dim": 128,
    "max_position_embeddings": 1024,
    "initializer_range": 0.06,
}
"""Sizes that the kernels in Gluon take."""


@pytest.mark.parametrize("rows", [5, 40])
@pytest.mark.parametrize("name", ["llama", "llama_biased", "qwen3"])
def test_bfloat16_decodes_as_close_as_transformers(name: str, rows: int, tmp_path: Path) -> None:
    """The log-probabilities of what graphs of few and many rows give, behind chunked prompts."""
    model = make_checkpoint(name, tmp_path, **WIDE).to("cuda")
    harness = Harness(
        tmp_path, device="cuda", dtype=torch.bfloat16, graphs=True,
        block_size=64, max_model_len=512, max_num_seqs=48, budget=300,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(rows)
    prompts = [
        torch.randint(0, VOCAB, (1 + 83 * row % 400,), generator=generator).tolist()
        for row in range(rows)
    ]
    params = SamplingParams(temperature=0.0, max_tokens=24, logprobs=1, ignore_eos=True)
    answers = harness.generate(prompts, [params] * rows)
    ours = torch.tensor([step[0][1] for answer in answers for step in answer.logprobs])
    outputs = [answer.token_ids for answer in answers]
    exact = _logprobs(model, prompts, outputs)
    theirs = _logprobs(model.to(torch.bfloat16), prompts, outputs)
    assert (ours - exact).norm() < 1.3 * (theirs - exact).norm() + 1e-3 * exact.norm()


def _logprobs(model: Any, prompts: list[list[int]], outputs: list[list[int]]) -> torch.Tensor:
    """Of all outputs, as the model sees them."""
    found = []
    for prompt, output in zip(prompts, outputs, strict=True):
        ids = torch.tensor([prompt + output], device=model.device)
        with torch.no_grad():
            logits = model(ids).logits[0, len(prompt) - 1 : -1].float()
        rows = torch.arange(len(output), device=model.device)
        found.append(logits.log_softmax(-1)[rows, ids[0, len(prompt) :]].cpu())
    return torch.cat(found)


def test_nothing_is_compiled_after_the_start(tmp_path: Path) -> None:
    """Chunks, decodes, every way of sampling: all of it was compiled by warm-up and capture."""
    make_checkpoint("llama", tmp_path)
    harness = Harness(
        tmp_path, device="cuda", budget=200, block_size=64, max_model_len=192, max_num_seqs=8
    )
    with torch.inference_mode():
        warm_up(harness.runner)
        harness.runner.capture(lambda *_: None)
    counter = CompileCounter()
    counter.install()
    prompts = [prompt * 3 for prompt in PROMPTS]
    harness.generate(prompts, PARAMS)
    harness.generate(prompts[::-1], PARAMS)
    assert (counter.compiled, counter.from_cache) == ([], 0)


def test_no_step_waits_for_the_device(tmp_path: Path) -> None:
    """Chunked prompts, decodes by graph, every way of sampling: `execute` only enqueues."""
    make_checkpoint("llama", tmp_path)
    harness = Harness(
        tmp_path, device="cuda", graphs=True, budget=16, max_model_len=64, max_num_seqs=8
    )
    harness.generate(PROMPTS, PARAMS)  # compiles what there is to compile
    execute = harness.runner.execute

    def watched(plan: StepPlan) -> Launched:
        torch.cuda.set_sync_debug_mode("error")
        try:
            return execute(plan)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    harness.runner.execute = watched  # type: ignore[method-assign]
    answers = harness.generate(PROMPTS, PARAMS)
    assert [len(answer.token_ids) for answer in answers] == [24] * len(PROMPTS)
