"""Triton bodies of sampling; `sampling` checks and launches them.

Filters work on keys: unsigned integers in the order of the tempered logits. "The largest key that
still has k keys (or mass p) at or above it" is then found digit by digit, exactly, for any data.
"""

from __future__ import annotations

import triton
import triton.language as tl

DIGIT_BITS = tl.constexpr(2)
DIGITS = tl.constexpr(4)
INVALID_TOKEN = tl.constexpr(-2)
MAX_INT = tl.constexpr(2**31 - 1)


@triton.jit
def _key(x: tl.tensor) -> tl.tensor:
    """float32 -> uint32 in the same order; both zeros have one key."""
    bits = (x + 0.0).to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return ordered.to(tl.uint32, bitcast=True) ^ 0x80000000


@triton.jit
def _tempered(
    row_ptr: tl.tensor, at: tl.tensor, vocab: tl.tensor, temperature: tl.tensor
) -> tl.tensor:
    x = tl.load(row_ptr + at, mask=at < vocab, other=float("-inf")).to(tl.float32)
    return tl.div_rn(x, tl.zeros_like(x) + temperature)


@triton.jit
def best_kernel(
    values_ptr: tl.tensor,
    winners_ptr: tl.tensor,
    logits_ptr: tl.tensor,
    temperature_ptr: tl.tensor,
    thresholds_ptr: tl.tensor,
    seeds_ptr: tl.tensor,
    positions_ptr: tl.tensor,
    logits_stride: tl.tensor,
    vocab: tl.tensor,
    PART: tl.constexpr,
    RANDOM: tl.constexpr,
    FILTERED: tl.constexpr,
) -> None:
    """(value, id) of one part's winner; a part with a NaN says (+inf, INVALID_TOKEN)."""
    row, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    ids = part * PART + tl.arange(0, PART)
    row_ptr = logits_ptr + row * logits_stride
    temperature = tl.full([], 0.0, tl.float32)
    if RANDOM:
        temperature = tl.load(temperature_ptr + row)
    x = _tempered(row_ptr, ids, vocab, tl.where(temperature > 0, temperature, 1.0))
    broken = tl.max((x != x).to(tl.int32), axis=0) > 0
    if RANDOM:  # noqa: SIM102  (the outer one is decided by the compiler)
        if temperature > 0:
            if FILTERED:
                threshold = tl.load(thresholds_ptr + row).to(tl.uint32, bitcast=True)
                x = tl.where(_key(x) >= threshold, x, float("-inf"))
            x += _gumbel(ids, tl.load(positions_ptr + row), tl.load(seeds_ptr + row))
    value = tl.max(x, axis=0)
    winner = tl.min(tl.where((x == value) & (ids < vocab), ids, MAX_INT), axis=0)
    cell = row * tl.num_programs(1) + part
    tl.store(values_ptr + cell, tl.where(broken, float("inf"), value))
    tl.store(winners_ptr + cell, tl.where(broken, INVALID_TOKEN, winner))


@triton.jit
def _gumbel(ids: tl.tensor, position: tl.tensor, seed: tl.tensor) -> tl.tensor:
    return -tl.log(-tl.log(uniforms(ids, position, seed)))


@triton.jit
def uniforms(ids: tl.tensor, position: tl.tensor, seed: tl.tensor) -> tl.tensor:
    """In (0, 1): the first word of Philox-4x32-10 under key `seed` and counter (id, position)."""
    zero = ids * 0
    word, _, _, _ = tl.philox(seed.to(tl.uint64, bitcast=True), ids, zero + position, zero, zero)
    return ((word >> 9).to(tl.float32) + 0.5) * (1.0 / 8388608.0)


@triton.jit
def pick_kernel(
    ids_ptr: tl.tensor,
    values_ptr: tl.tensor,
    winners_ptr: tl.tensor,
    num_parts: tl.tensor,
    PARTS_PAD: tl.constexpr,
) -> None:
    row, part = tl.program_id(0).to(tl.int64), tl.arange(0, PARTS_PAD)
    at, inside = row * num_parts + part, part < num_parts
    values = tl.load(values_ptr + at, mask=inside, other=float("-inf"))
    winners = tl.load(winners_ptr + at, mask=inside, other=MAX_INT)
    best = tl.max(values, axis=0)
    tl.store(ids_ptr + row, tl.min(tl.where(values == best, winners, MAX_INT), axis=0))


@triton.jit
def threshold_kernel(
    keys_ptr: tl.tensor,
    logits_ptr: tl.tensor,
    temperature_ptr: tl.tensor,
    top_k_ptr: tl.tensor,
    top_p_ptr: tl.tensor,
    min_p_ptr: tl.tensor,
    logits_stride: tl.tensor,
    vocab: tl.tensor,
    TILE: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    row_ptr = logits_ptr + row * logits_stride
    temperature = tl.load(temperature_ptr + row)
    top_k, top_p = tl.load(top_k_ptr + row), tl.load(top_p_ptr + row)
    min_p = tl.load(min_p_ptr + row)
    threshold = tl.full([], 0, tl.uint32)
    active = (top_k > 0) & (top_k < vocab) | (top_p < 1.0) | (min_p > 0.0)
    if (temperature > 0) & active:
        top = _row_max(row_ptr, vocab, temperature, TILE)
        # Under an infinite maximum nothing needs a filter: +inf wins anyway, all -inf tie.
        finite = tl.abs(top) < float("inf")
        if (min_p > 0.0) & finite:
            threshold = _key(top + tl.log(min_p))
        if (top_k > 0) & (top_k < vocab) & finite:
            wanted = top_k.to(tl.float32)
            none = tl.full([], 0, tl.uint32)
            kth = _search(row_ptr, vocab, temperature, none, top, wanted, False, TILE)
            threshold = tl.maximum(threshold, kth)
        if (top_p < 1.0) & finite:
            threshold = _search(row_ptr, vocab, temperature, threshold, top, top_p, True, TILE)
    tl.store(keys_ptr + row, threshold.to(tl.int32, bitcast=True))


@triton.jit
def _row_max(
    row_ptr: tl.tensor, vocab: tl.tensor, temperature: tl.tensor, TILE: tl.constexpr
) -> tl.tensor:
    best = tl.full([TILE], float("-inf"), tl.float32)
    for start in range(0, vocab, TILE):
        x = _tempered(row_ptr, start + tl.arange(0, TILE), vocab, temperature)
        best = tl.maximum(best, x)
    return tl.max(best, axis=0)


@triton.jit
def _search(
    row_ptr: tl.tensor,
    vocab: tl.tensor,
    temperature: tl.tensor,
    floor: tl.tensor,
    top: tl.tensor,
    wanted: tl.tensor,
    MASS: tl.constexpr,
    TILE: tl.constexpr,
) -> tl.tensor:
    """The largest key with at least `wanted` at or above it, among the keys >= floor: as a count,
    or (MASS) as a share of the softmax's mass. Counts are exact in float32 below 2**24 ids."""
    digits = tl.arange(0, DIGITS)
    found = tl.full([], 0, tl.uint32)
    shift = tl.full([], 32 - DIGIT_BITS, tl.uint32)
    needed = wanted
    # Any finite reference point keeps inf - inf out; an infinite logit weighs inf or nothing then.
    top = tl.where(tl.abs(top) < float("inf"), top, 0.0)
    for step in range(32 // DIGIT_BITS):
        pivots = found | (digits.to(tl.uint32) << shift)
        above = _above(row_ptr, vocab, temperature, floor, top, pivots, MASS, TILE)
        if MASS:  # noqa: SIM102  (the outer one is decided by the compiler)
            if step == 0:
                needed = wanted * tl.max(above, axis=0)
        digit = tl.maximum(tl.sum((above >= needed).to(tl.int32), axis=0) - 1, 0)
        found = found | (digit.to(tl.uint32) << shift)
        shift = shift - DIGIT_BITS
    return found


@triton.jit
def _above(
    row_ptr: tl.tensor,
    vocab: tl.tensor,
    temperature: tl.tensor,
    floor: tl.tensor,
    top: tl.tensor,
    pivots: tl.tensor,
    MASS: tl.constexpr,
    TILE: tl.constexpr,
) -> tl.tensor:
    """float32[DIGITS]: count or mass of the keys >= floor that are at or above each pivot."""
    found = tl.zeros([DIGITS], tl.float32)
    for start in range(0, vocab, TILE):
        at = start + tl.arange(0, TILE)
        x = _tempered(row_ptr, at, vocab, temperature)
        key = _key(x)
        weight = tl.full([TILE], 1.0, tl.float32)
        if MASS:
            weight = tl.exp(x - top)
        weight = tl.where((at < vocab) & (key >= floor), weight, 0.0)
        reached = key[None, :] >= pivots[:, None]
        found += tl.sum(tl.where(reached, weight[None, :], 0.0), axis=1)
    return found
