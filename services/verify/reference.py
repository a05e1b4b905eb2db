"""transformers' own answers, with the same files, dtype and device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Answer:
    """`logits` float32 [prompt + continuation - 1, vocab] on the CPU: what follows each token."""

    prompt: list[int]
    continuation: list[int]
    logits: torch.Tensor

    @property
    def ids(self) -> list[int]:
        """All that the logits were computed from."""
        return [*self.prompt, *self.continuation][:-1]


def answers(
    path: str, prompts: Sequence[list[int]], count: int, dtype: torch.dtype, device: torch.device
) -> list[Answer]:
    """Greedy continuations of `count` tokens, and the logits of one whole pass over each."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, local_files_only=True)
    model = model.to(device).eval()
    with torch.inference_mode():
        return [_answer(model, prompt, count, device) for prompt in prompts]


def _answer(model: Any, prompt: list[int], count: int, device: torch.device) -> Answer:
    """Without a cache, whose interface differs between versions: the last pass is the whole one."""
    ids = list(prompt)
    whole = torch.empty(0)
    for _ in range(count):
        whole = model(torch.tensor([ids], device=device), use_cache=False).logits[0]
        ids.append(int(whole[-1].argmax()))
    return Answer(prompt, ids[len(prompt) :], whole.float().cpu())
