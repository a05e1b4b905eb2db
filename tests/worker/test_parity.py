"""Parity with transformers, float32 on the CPU: logits, and ids under every way of batching."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from engine_harness import Harness
from model_checkpoints import VARIANTS, VOCAB, make_checkpoint
from transformers.modeling_outputs import CausalLMOutputWithPast

from octavo.shared.sampling import SamplingParams

NEW_TOKENS = 64
IS_NEW = "cache" in CausalLMOutputWithPast.__dataclass_fields__
CACHE = "cache" if IS_NEW else "past_key_values"
"""As this transformers calls it."""
NAMES = sorted(VARIANTS)


@pytest.fixture(scope="module", params=NAMES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[str, Path, Any]:
    path = tmp_path_factory.mktemp(request.param)
    return request.param, path, make_checkpoint(request.param, path)


def prompt_of(length: int, seed: int) -> list[int]:
    return torch.randint(
        0, VOCAB, (length,), generator=torch.Generator().manual_seed(seed)
    ).tolist()


def context_of(name: str) -> int:
    """Below the trained length dynamic and longrope frequencies are transformers' plain ones."""
    return 64 if name in ("llama_dynamic", "phi3_longrope") else 256


def greedy_ids(model: Any, prompt: list[int], count: int) -> list[int]:
    """transformers' greedy continuation, from whole forward passes."""
    ids = list(prompt)
    with torch.no_grad():
        out = model(torch.tensor([ids]), use_cache=True)
        cache = getattr(out, CACHE)
        for _ in range(count):
            ids.append(int(out.logits[0, -1].argmax()))
            out = model(torch.tensor([ids[-1:]]), use_cache=True, **{CACHE: cache})
    return ids[len(prompt) :]


def params(count: int, **changes: Any) -> SamplingParams:
    return SamplingParams(temperature=0.0, max_tokens=count, **changes)


def test_logits_equal_transformers(checkpoint: tuple[str, Path, Any]) -> None:
    name, path, model = checkpoint
    harness = Harness(path, max_model_len=context_of(name))
    prompt = prompt_of(40, 1)
    ours = harness.forward(prompt)
    with torch.no_grad():
        theirs = model(torch.tensor([prompt])).logits[0]
    assert (ours - theirs).abs().max() < 1e-4


def test_long_tables_equal_transformers(checkpoint: tuple[str, Path, Any]) -> None:
    """Past the trained length, at exactly max_model_len, frequencies are transformers' too."""
    name, path, model = checkpoint
    if name not in ("llama_dynamic", "phi3_longrope"):
        pytest.skip("the table does not depend on the length")
    prompt = prompt_of(128, 2)
    ours = Harness(path, max_model_len=128).forward(prompt)
    with torch.no_grad():
        theirs = model(torch.tensor([prompt])).logits[0]
    assert (ours - theirs).abs().max() < 1e-4


def test_greedy_ids_however_it_is_batched(checkpoint: tuple[str, Path, Any]) -> None:
    name, path, model = checkpoint
    length = context_of(name)
    count = min(NEW_TOKENS, length - 40)
    prompt = prompt_of(39, 3)
    expected = greedy_ids(model, prompt, count)
    one = params(count)

    whole = Harness(path, max_model_len=length)
    assert whole.generate([prompt], [one])[0].token_ids == expected
    again = whole.generate([prompt], [one])[0]
    assert again.cached_tokens == 32
    assert again.token_ids == expected

    chunks = Harness(path, max_model_len=length, budget=7, max_num_seqs=4)
    assert chunks.generate([prompt], [one])[0].token_ids == expected

    others = [prompt_of(5 + seed, seed) for seed in range(31)]
    crowd = whole.generate([*others, prompt], [one] * 32)
    assert crowd[-1].token_ids == expected


def test_preemption_changes_nothing(checkpoint: tuple[str, Path, Any]) -> None:
    name, path, _ = checkpoint
    length = context_of(name)
    count = min(NEW_TOKENS, length - 20)
    prompts = [prompt_of(20, seed) for seed in range(6)]
    wanted = [params(count)] * 3 + [
        SamplingParams(temperature=1.0, seed=seed, max_tokens=count) for seed in range(3)
    ]
    roomy = Harness(path, max_model_len=length)
    expected = [answer.token_ids for answer in roomy.generate(prompts, wanted)]
    tight = Harness(path, max_model_len=length, num_blocks=12, prefix_caching=False)
    assert [answer.token_ids for answer in tight.generate(prompts, wanted)] == expected
    assert tight.num_preemptions() > 0


def test_seeded_ids_depend_on_nothing_else(checkpoint: tuple[str, Path, Any]) -> None:
    name, path, _ = checkpoint
    length = context_of(name)
    wanted = SamplingParams(
        temperature=0.8, top_k=50, top_p=0.95, seed=42, max_tokens=20, repetition_penalty=1.1
    )
    prompt = prompt_of(30, 9)
    alone = Harness(path, max_model_len=length)
    expected = alone.generate([prompt], [wanted])[0].token_ids
    others = [prompt_of(10, seed) for seed in range(8)]
    mixed = [SamplingParams(temperature=1.0, seed=seed, max_tokens=25) for seed in range(8)]
    for budget in (11, 512):
        crowd = Harness(path, max_model_len=length, budget=budget, max_num_seqs=9)
        answers = crowd.generate(
            [*others[:4], prompt, *others[4:]], [*mixed[:4], wanted, *mixed[4:]]
        )
        assert answers[4].token_ids == expected
