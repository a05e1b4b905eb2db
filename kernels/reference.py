"""Every op in plain torch: the CPU path of the product, and the oracle of the kernel tests.

Shapes: T tokens, n rows, H hidden, D head_dim, V vocabulary. Arithmetic is in float32 (in float64
where the inputs are float64), results in the inputs' dtype.
"""

from __future__ import annotations

import itertools

import torch

from octavo.kernels.batch import ForwardBatch, WorkLists
from octavo.kernels.invariance import is_on
from octavo.kernels.reference_invariant import tiled_linear
from octavo.kernels.reference_sampling import (
    apply_bitmask,
    apply_penalties,
    sample,
    token_logprobs,
)

__all__ = [
    "add_rms_norm",
    "apply_bitmask",
    "apply_penalties",
    "gated_linear",
    "linear",
    "make_work_lists",
    "paged_attention",
    "plan_attention",
    "prepare_inputs",
    "rms_norm",
    "rotary_and_kv_write",
    "sample",
    "silu_and_mul",
    "token_logprobs",
]

QUERY_CHUNK = 256
"""Queries of one row whose scores are held at once: bounds the memory of a long prompt."""


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x [..., H] scaled to unit root mean square, times weight [H]."""
    wide = _wide(x)
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (normed * weight).to(x.dtype)


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """residual [T, H] += x in place; returns (its norm, residual)."""
    residual.add_(x)
    return rms_norm(residual, weight, eps), residual


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [T, K] @ weight [N, K]^T + bias [N] -> [T, N]."""
    product = tiled_linear if is_on() else torch.nn.functional.linear
    return product(x, weight, bias)


def gated_linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """silu(x @ gate^T) * (x @ up^T) [T, I], of weight [2I, K] = (gate, up)."""
    return silu_and_mul(linear(x, weight, bias))


def silu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """x [T, 2I] = (gate, up) -> silu(gate) * up [T, I]."""
    gate, up = _wide(x).chunk(2, dim=-1)
    return (torch.nn.functional.silu(gate) * up).to(x.dtype)


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
    """Norm (optional) and rotate q [T, Hq, D] in place and k [T, Hkv, D]; write k and v.

    `cos_sin` float32 [max_pos, rotary_dim]: cosines, then sines, for the first rotary_dim
    dimensions of a head, rotated in halves (GPT-NeoX). `slot_mapping` int64[T] is
    block * block_size + offset in the caches [blocks, Hkv, block_size, D]; -1 writes nothing.
    """
    table = cos_sin[positions.long()]
    q.copy_(_rotate(q if q_norm is None else rms_norm(q, q_norm, eps), table))
    rotated = _rotate(k if k_norm is None else rms_norm(k, k_norm, eps), table)
    kept = slot_mapping >= 0
    where = slot_mapping[kept]
    block, offset = where // k_cache.shape[2], where % k_cache.shape[2]
    k_cache[block, :, offset] = rotated[kept].to(k_cache.dtype)
    v_cache[block, :, offset] = v[kept].to(v_cache.dtype)


def _rotate(x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    half = table.shape[-1] // 2
    cos, sin = table[:, None, :half], table[:, None, half:]
    wide = _wide(x)
    first, second, rest = wide[..., :half], wide[..., half : 2 * half], wide[..., 2 * half :]
    parts = (first * cos - second * sin, second * cos + first * sin, rest)
    return torch.cat(parts, dim=-1).to(x.dtype)


def paged_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: ForwardBatch,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
) -> torch.Tensor:
    """Causal attention of a ragged batch over the paged cache: q [T, Hq, D] -> [T, Hq, D].

    Query j of a row stands at position seq_len - query_len + j and sees the positions up to its
    own, at most the last `window` of them (0: all). `soft_cap` c bounds scores to c * tanh(s / c).
    Rows of one query are computed together, others one by one in chunks, and each query by itself
    where `invariance` is on; what no query sees is never read into a result.
    """
    out = torch.zeros_like(q)
    options = (scale, window, soft_cap)
    starts, lengths = batch.query_start.tolist(), batch.seq_lens.tolist()
    counts = [after - before for before, after in itertools.pairwise(starts)]
    most = 1 if is_on() else QUERY_CHUNK
    decoding = [row for row, count in enumerate(counts) if count == 1 and lengths[row] > 0]
    if decoding and most > 1:
        rows = torch.tensor(decoding, device=q.device)
        tokens, ends = batch.query_start[rows].long(), batch.seq_lens[rows].long()
        queries = q[tokens, None]
        out[tokens] = _attend(queries, rows, ends, k_cache, v_cache, batch, *options)[:, 0]
    for row, count in enumerate(counts):
        if count > (most > 1) and lengths[row] > 0:
            one = torch.tensor([row], device=q.device)
            for first in range(0, count, most):
                last = min(first + most, count)
                part = slice(starts[row] + first, starts[row] + last)
                end = torch.tensor([lengths[row] - count + last], device=q.device)
                chunk = q[None, part]
                out[part] = _attend(chunk, one, end, k_cache, v_cache, batch, *options)[0]
    return out


def _attend(
    q: torch.Tensor,
    rows: torch.Tensor,
    ends: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: ForwardBatch,
    scale: float,
    window: int,
    soft_cap: float,
) -> torch.Tensor:
    """q [r, m, Hq, D] of r rows with m queries each, the last at position ends - 1."""
    seen = _visible(ends, q.shape[1], window)
    keys = _gather(k_cache, rows, seen.any(1), batch)
    values = _gather(v_cache, rows, seen.any(1), batch)
    group = q.shape[2] // keys.shape[2]
    queries = _wide(q).view(*q.shape[:2], keys.shape[2], group, q.shape[3])
    scores = torch.einsum("rmhgd,rlhd->rhgml", queries, keys) * scale
    if soft_cap > 0:
        scores = soft_cap * torch.tanh(scores / soft_cap)
    weights = scores.masked_fill(~seen[:, None, None], float("-inf")).softmax(-1)
    return torch.einsum("rhgml,rlhd->rmhgd", weights, values).flatten(2, 3).to(q.dtype)


def _visible(ends: torch.Tensor, num_queries: int, window: int) -> torch.Tensor:
    """bool [r, m, L]: which of the positions to the last one each query sees."""
    at = torch.arange(int(ends.max()), device=ends.device)
    query = ends[:, None] - num_queries + torch.arange(num_queries, device=ends.device)
    seen = at <= query[..., None]
    if window > 0:
        seen &= at > query[..., None] - window
    return seen


def _gather(
    cache: torch.Tensor, rows: torch.Tensor, seen: torch.Tensor, batch: ForwardBatch
) -> torch.Tensor:
    """[r, L, Hkv, D] of the rows' pages, zero where `seen` [r, L] is not."""
    num_blocks = -(-seen.shape[1] // cache.shape[2])
    tables = batch.block_tables[batch.slots[rows].long(), :num_blocks].long()
    padding = num_blocks * cache.shape[2] - seen.shape[1]
    live = torch.nn.functional.pad(seen, (0, padding))
    owned = live.unflatten(1, (num_blocks, -1)).any(-1)
    pages = cache[torch.where(owned, tables, 0)].transpose(2, 3).flatten(1, 2)
    return _wide(torch.where(live[..., None, None], pages, 0))[:, : seen.shape[1]]


def make_work_lists(
    max_rows: int,
    max_tokens: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    device: torch.device,
) -> WorkLists:
    """Empty ones: the reference's attention follows no plan."""
    none = torch.empty((0, 0), dtype=torch.int32, device=device)
    return WorkLists(none, none, none, none, none, 0, splits=0, tile_tokens=1, rows_of_item=1)


def plan_attention(
    work: WorkLists,
    query_start: torch.Tensor,
    seq_lens: torch.Tensor,
    slots: torch.Tensor,
    prefix_tiles: torch.Tensor | None = None,
) -> None:
    """Nothing to do."""


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
    """Fill the step's inputs from its rows; see `StepInputs` for the buffers.

    Token j of row i stands at num_computed[slots[i]] + j; its id is host_ids where that is >= 0,
    else last_token[slots[i]]. Outputs longer than the T tokens and n rows are padding: id 0,
    position 0, slot mapping -1, seq_len 0.
    """
    n, total = slots.shape[0], host_ids.shape[0]
    counts = (query_start[1:] - query_start[:-1]).long()
    row = torch.repeat_interleave(torch.arange(n, device=slots.device), counts, output_size=total)
    slot = slots.long()[row]
    offset = torch.arange(total, device=slots.device) - query_start.long()[row]
    at = num_computed[slot].long() + offset
    for padded, fill in ((input_ids, 0), (positions, 0), (slot_mapping, -1)):
        padded[total:] = fill
    input_ids[:total] = torch.where(host_ids >= 0, host_ids, last_token[slot])
    positions[:total] = at
    slot_mapping[:total] = (
        block_tables[slot, at // block_size].long() * block_size + at % block_size
    )
    seq_lens[n:] = 0
    seq_lens[:n] = num_computed[slots.long()] + counts
