"""The one seam between models and kernels: each op, by the device of its first tensor.

CUDA tensors go to the Triton module of the op's family, others to `reference`. Names, signatures
and meanings are the same on both sides and are documented in `reference`.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch

from octavo.kernels import reference
from octavo.kernels.batch import ForwardBatch, WorkLists

_families: dict[str, ModuleType] = {}


def _on(tensor: torch.Tensor, family: str) -> Any:
    """The module that computes where the tensor is; Triton's are imported at first use."""
    if not tensor.is_cuda:
        return reference
    if family not in _families:
        _families[family] = importlib.import_module(f"octavo.kernels.{family}")
    return _families[family]


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    normed: torch.Tensor = _on(x, "rms_norm").rms_norm(x, weight, eps)
    return normed


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    pair: tuple[torch.Tensor, torch.Tensor]
    pair = _on(x, "rms_norm").add_rms_norm(x, residual, weight, eps)
    return pair


def silu_and_mul(x: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = _on(x, "activation").silu_and_mul(x)
    return product


def rotary_and_kv_write(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    positions: torch.Tensor,
    cos_sin: torch.Tensor,
    slot_mapping: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    q_norm: torch.Tensor | None = None,
    k_norm: torch.Tensor | None = None,
    eps: float = 1e-6,
) -> None:
    _on(q, "rotary").rotary_and_kv_write(
        q, k, v, positions, cos_sin, slot_mapping, k_cache, v_cache, q_norm, k_norm, eps
    )


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    product: torch.Tensor = _on(x, "linear").linear(x, weight, bias)
    return product


def gated_linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    product: torch.Tensor = _on(x, "linear").gated_linear(x, weight, bias)
    return product


def make_work_lists(
    max_rows: int,
    max_tokens: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    device: torch.device,
) -> WorkLists:
    lists: WorkLists = _on(torch.empty(0, device=device), "attention_plan").make_work_lists(
        max_rows, max_tokens, heads, kv_heads, head_dim, dtype, device
    )
    return lists


def plan_attention(
    work: WorkLists,
    query_start: torch.Tensor,
    seq_lens: torch.Tensor,
    slots: torch.Tensor,
    prefix_tiles: torch.Tensor | None = None,
) -> None:
    _on(work.shares, "attention_plan").plan_attention(
        work, query_start, seq_lens, slots, prefix_tiles
    )


def paged_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: ForwardBatch,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
) -> torch.Tensor:
    out: torch.Tensor = _on(q, "paged_attention").paged_attention(
        q, k_cache, v_cache, batch, scale, window, soft_cap
    )
    return out


def prepare_inputs(
    host_ids: torch.Tensor,
    query_start: torch.Tensor,
    slots: torch.Tensor,
    num_computed: torch.Tensor,
    last_token: torch.Tensor,
    block_tables: torch.Tensor,
    block_size: int,
    input_ids: torch.Tensor,
    positions: torch.Tensor,
    slot_mapping: torch.Tensor,
    seq_lens: torch.Tensor,
) -> None:
    _on(host_ids, "step_inputs").prepare_inputs(
        host_ids,
        query_start,
        slots,
        num_computed,
        last_token,
        block_tables,
        block_size,
        input_ids,
        positions,
        slot_mapping,
        seq_lens,
    )


def sample(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    seeds: torch.Tensor,
    positions: torch.Tensor,
    *,
    random: bool,
    filtered: bool,
) -> torch.Tensor:
    ids: torch.Tensor = _on(logits, "sampling").sample(
        logits,
        temperature,
        top_k,
        top_p,
        min_p,
        seeds,
        positions,
        random=random,
        filtered=filtered,
    )
    return ids


def apply_penalties(
    logits: torch.Tensor,
    slots: torch.Tensor,
    counts: torch.Tensor,
    presence: torch.Tensor,
    frequency: torch.Tensor,
    repetition: torch.Tensor,
) -> None:
    _on(logits, "penalties").apply_penalties(logits, slots, counts, presence, frequency, repetition)


def apply_bitmask(logits: torch.Tensor, rows: torch.Tensor, masks: torch.Tensor) -> None:
    _on(logits, "bitmask").apply_bitmask(logits, rows, masks)


def token_logprobs(
    logits: torch.Tensor, ids: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """torch's own log_softmax and topk on every device: rare, and never without being asked."""
    return reference.token_logprobs(logits, ids, k)
