"""Head norm, rotary embedding (Su et al., 2021) and the write into the paged cache, in one launch.

One program takes one token and a block of heads: of q, or of k and v together.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from octavo.kernels.launch import let_next_start, pdl_options, wait_for_inputs

TILE_ELEMENTS = 2048


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

    q, k, v may be views of one packed [T, (Hq + 2 Hkv) D]. `positions` int32[T]; `cos_sin` float32
    [max_pos, rotary_dim]: cosines, then sines, for the first rotary_dim dimensions of a head,
    rotated in halves (GPT-NeoX). `slot_mapping` int64[T]: block * block_size + offset in the
    caches [blocks, Hkv, block_size, D]; -1 writes nothing. q_norm, k_norm [D]: RMS weights.
    k itself is left as it was. Raises ValueError on shapes that do not fit.
    """
    _check(q, k, v, positions, cos_sin, slot_mapping, k_cache, v_cache)
    num_tokens, num_heads, head_dim = q.shape
    if num_tokens == 0:
        return
    half = cos_sin.shape[1] // 2
    rest_pad = triton.next_power_of_2(max(head_dim - 2 * half, 1))
    half_pad = triton.next_power_of_2(half)
    heads = max(TILE_ELEMENTS // (2 * half_pad + rest_pad), 1)
    heads = min(triton.next_power_of_2(heads), triton.next_power_of_2(num_heads))
    q_programs, k_programs = triton.cdiv(num_heads, heads), triton.cdiv(k.shape[1], heads)
    _rotary_kernel[(num_tokens, q_programs + k_programs)](
        q,
        k,
        v,
        positions,
        cos_sin,
        slot_mapping,
        k_cache,
        v_cache,
        q if q_norm is None else q_norm,
        k if k_norm is None else k_norm,
        eps,
        *(q.stride(0), q.stride(1), k.stride(0), k.stride(1), v.stride(0), v.stride(1)),
        *(*k_cache.stride()[:3], *v_cache.stride()[:3]),
        Q_HEADS=num_heads,
        KV_HEADS=k.shape[1],
        Q_PROGRAMS=q_programs,
        HEAD_DIM=head_dim,
        HALF=half,
        BLOCK_SIZE=k_cache.shape[2],
        HEADS=heads,
        HALF_PAD=half_pad,
        REST_PAD=rest_pad,
        DIM_PAD=triton.next_power_of_2(head_dim),
        Q_NORM=q_norm is not None,
        K_NORM=k_norm is not None,
        num_warps=4,
        **pdl_options(q),
    )


def _check(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    positions: torch.Tensor,
    cos_sin: torch.Tensor,
    slot_mapping: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
) -> None:
    num_tokens, _, head_dim = q.shape
    if k.shape != v.shape or k.shape[::2] != (num_tokens, head_dim):
        raise ValueError(f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)} do not fit.")
    if k_cache.shape != v_cache.shape or k_cache.shape[1::2] != k.shape[1:]:
        raise ValueError(f"Cache {tuple(k_cache.shape)} does not fit k {tuple(k.shape)}.")
    if any(tensor.stride(-1) != 1 for tensor in (q, k, v, k_cache, v_cache)):
        raise ValueError("The last dimension of q, k, v and the caches must be contiguous.")
    if positions.shape != (num_tokens,) or slot_mapping.shape != (num_tokens,):
        raise ValueError(f"positions and slot_mapping must have {num_tokens} entries.")
    if cos_sin.dtype != torch.float32 or not cos_sin.is_contiguous():
        raise ValueError("cos_sin must be float32 and contiguous.")
    rotary_dim = cos_sin.shape[1]
    if rotary_dim % 2 or not 0 < rotary_dim <= head_dim:
        raise ValueError(f"rotary_dim {rotary_dim} must be even and at most {head_dim}.")


@triton.jit
def _rotary_kernel(
    q_ptr: tl.tensor,
    k_ptr: tl.tensor,
    v_ptr: tl.tensor,
    positions_ptr: tl.tensor,
    cos_sin_ptr: tl.tensor,
    slot_mapping_ptr: tl.tensor,
    k_cache_ptr: tl.tensor,
    v_cache_ptr: tl.tensor,
    q_norm_ptr: tl.tensor,
    k_norm_ptr: tl.tensor,
    eps: tl.tensor,
    q_token: tl.tensor,
    q_head: tl.tensor,
    k_token: tl.tensor,
    k_head: tl.tensor,
    v_token: tl.tensor,
    v_head: tl.tensor,
    kc_block: tl.tensor,
    kc_head: tl.tensor,
    kc_offset: tl.tensor,
    vc_block: tl.tensor,
    vc_head: tl.tensor,
    vc_offset: tl.tensor,
    Q_HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    Q_PROGRAMS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    HEADS: tl.constexpr,
    HALF_PAD: tl.constexpr,
    REST_PAD: tl.constexpr,
    DIM_PAD: tl.constexpr,
    Q_NORM: tl.constexpr,
    K_NORM: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    let_next_start(PDL)
    token, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    # Positions and slots are older than the step's first layer: no kernel that runs writes them.
    table = cos_sin_ptr + tl.load(positions_ptr + token).to(tl.int64) * (2 * HALF)
    half = tl.arange(0, HALF_PAD)
    cos = tl.load(table + half, mask=half < HALF, other=0.0)[None, :]
    sin = tl.load(table + HALF + half, mask=half < HALF, other=0.0)[None, :]
    slot = tl.load(slot_mapping_ptr + token)
    wait_for_inputs(PDL)
    if part < Q_PROGRAMS:
        base, first = q_ptr + token * q_token, part * HEADS
        _rotate(base, q_head, base, q_head, first, Q_HEADS, cos, sin, q_norm_ptr, eps,
                HEAD_DIM, HALF, HEADS, HALF_PAD, REST_PAD, Q_NORM)  # fmt: skip
    elif slot >= 0:
        block, offset = slot // BLOCK_SIZE, slot % BLOCK_SIZE
        source, first = k_ptr + token * k_token, (part - Q_PROGRAMS) * HEADS
        target = k_cache_ptr + block * kc_block + offset * kc_offset
        _rotate(source, k_head, target, kc_head, first, KV_HEADS, cos, sin, k_norm_ptr, eps,
                HEAD_DIM, HALF, HEADS, HALF_PAD, REST_PAD, K_NORM)  # fmt: skip
        target = v_cache_ptr + block * vc_block + offset * vc_offset
        values = v_ptr + token * v_token
        _copy(values, v_head, target, vc_head, first, KV_HEADS, HEAD_DIM, HEADS, DIM_PAD)


@triton.jit
def _rotate(
    source: tl.tensor,
    source_head: tl.tensor,
    target: tl.tensor,
    target_head: tl.tensor,
    first_head: tl.tensor,
    NUM_HEADS: tl.constexpr,
    cos: tl.tensor,
    sin: tl.tensor,
    norm_ptr: tl.tensor,
    eps: tl.tensor,
    HEAD_DIM: tl.constexpr,
    HALF: tl.constexpr,
    HEADS: tl.constexpr,
    HALF_PAD: tl.constexpr,
    REST_PAD: tl.constexpr,
    NORM: tl.constexpr,
) -> None:
    """A head is held as its two rotated halves and the rest, so that each thread stores only what
    it has loaded: in place there is no order between threads."""
    head = first_head + tl.arange(0, HEADS)
    half, rest = tl.arange(0, HALF_PAD), tl.arange(0, REST_PAD)
    is_half = (head < NUM_HEADS)[:, None] & (half < HALF)[None, :]
    is_rest = (head < NUM_HEADS)[:, None] & (rest < HEAD_DIM - 2 * HALF)[None, :]
    half_at = source + (head * source_head)[:, None] + half[None, :]
    rest_at = source + (head * source_head)[:, None] + rest[None, :] + 2 * HALF
    x = tl.load(half_at, mask=is_half, other=0.0).to(tl.float32)
    y = tl.load(half_at + HALF, mask=is_half, other=0.0).to(tl.float32)
    z = tl.load(rest_at, mask=is_rest, other=0.0).to(tl.float32)
    if NORM:
        squares = tl.sum(x * x + y * y, axis=1) + tl.sum(z * z, axis=1)
        scale = tl.rsqrt(squares / HEAD_DIM + eps)[:, None]
        weight_at = norm_ptr + half
        x *= scale * tl.load(weight_at, mask=half < HALF, other=0.0).to(tl.float32)[None, :]
        y *= scale * tl.load(weight_at + HALF, mask=half < HALF, other=0.0).to(tl.float32)[None, :]
        in_rest = rest < HEAD_DIM - 2 * HALF
        z_weight = tl.load(norm_ptr + 2 * HALF + rest, mask=in_rest, other=0.0).to(tl.float32)
        z *= scale * z_weight[None, :]
        # Rounded as a norm of its own would be: the model was trained with two steps.
        x = x.to(source.dtype.element_ty).to(tl.float32)
        y = y.to(source.dtype.element_ty).to(tl.float32)
    out = target.dtype.element_ty
    half_to = target + (head * target_head)[:, None] + half[None, :]
    rest_to = target + (head * target_head)[:, None] + rest[None, :] + 2 * HALF
    tl.store(half_to, (x * cos - y * sin).to(out), mask=is_half)
    tl.store(half_to + HALF, (y * cos + x * sin).to(out), mask=is_half)
    tl.store(rest_to, z.to(out), mask=is_rest)


@triton.jit
def _copy(
    source: tl.tensor,
    source_head: tl.tensor,
    target: tl.tensor,
    target_head: tl.tensor,
    first_head: tl.tensor,
    NUM_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    HEADS: tl.constexpr,
    DIM_PAD: tl.constexpr,
) -> None:
    head, dim = first_head + tl.arange(0, HEADS), tl.arange(0, DIM_PAD)
    inside = (head < NUM_HEADS)[:, None] & (dim < HEAD_DIM)[None, :]
    values = tl.load(source + (head * source_head)[:, None] + dim[None, :], mask=inside, other=0.0)
    at = target + (head * target_head)[:, None] + dim[None, :]
    tl.store(at, values.to(target.dtype.element_ty), mask=inside)
