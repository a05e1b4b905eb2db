"""Causal attention of a ragged batch over the paged KV cache: checks, and the two kernels of it.

Rows with one query token read their keys at the speed of memory (`decode_attention`), rows with
more compute at the speed of the tensor cores (`prefill_attention`). Both follow work lists that
`attention_plan` made on the device.
"""

from __future__ import annotations

import torch

from octavo.kernels.batch import ForwardBatch
from octavo.kernels.decode_attention import decode_attention
from octavo.kernels.prefill_attention import prefill_attention

MAX_HEAD_DIM = 256


def paged_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: ForwardBatch,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
) -> torch.Tensor:
    """q [T, Hq, D] over caches [blocks, Hkv, block_size, D] -> contiguous [T, Hq, D], q's dtype.

    Query j of a row stands at position seq_len - query_len + j and sees the positions up to its
    own, at most the last `window` of them (0: all). `soft_cap` c bounds scores to c * tanh(s / c).
    Tokens of no row give zeros where the batch is padded. What is written in a page outside the
    positions that are seen does not matter, NaN included. Nothing depends on lengths known to the
    host only, so that a launch can be captured in a CUDA graph. Raises ValueError on shapes that
    do not fit.
    """
    _check(q, k_cache, v_cache, batch)
    make = torch.zeros if batch.padded else torch.empty
    out = make(q.shape, dtype=q.dtype, device=q.device)
    if len(batch.work.tiles):
        prefill_attention(out, q, k_cache, v_cache, batch, scale, window, soft_cap)
    if len(batch.work.shares):
        decode_attention(out, q, k_cache, v_cache, batch, scale, window, soft_cap)
    return out


def _check(
    q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, batch: ForwardBatch
) -> None:
    if q.dim() != 3 or k_cache.dim() != 4 or k_cache.shape != v_cache.shape:
        raise ValueError(f"q {tuple(q.shape)}, caches {tuple(k_cache.shape)} do not fit.")
    _, kv_heads, block_size, head_dim = k_cache.shape
    if q.shape[2] != head_dim or q.shape[1] % kv_heads:
        raise ValueError(f"q {tuple(q.shape)} does not fit the cache {tuple(k_cache.shape)}.")
    if head_dim > MAX_HEAD_DIM or block_size < 16 or block_size & (block_size - 1):
        raise ValueError(f"head_dim {head_dim} or block_size {block_size} is not supported.")
    if not q.dtype == k_cache.dtype == v_cache.dtype:
        raise ValueError(f"q is {q.dtype}, the caches {k_cache.dtype} and {v_cache.dtype}.")
    if not (k_cache.is_contiguous() and v_cache.is_contiguous()):
        raise ValueError("The caches must be contiguous.")
    if q.stride(-1) != 1 or batch.block_tables.stride(-1) != 1:
        raise ValueError("The last dimension of q and block tables must be contiguous.")
