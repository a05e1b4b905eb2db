"""Triton body that finds a row's exact threshold among the logits collected for it.

"The largest value that still has k ids (or mass p) at or above it" is found two bits at a time
on keys, unsigned integers in the order of the floats: exactly, for any data. Masses are added as
integers of 2**-40: the candidates' order is not fixed, and integer sums do not depend on it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from octavo.kernels.sampling_filters import ABOVE, DONE, FLOOR, LOW, NEEDED, PLAN, STATE, TOP
from octavo.kernels.sampling_tiles import scale_of

UNIT = tl.constexpr(float(2**40))
DIGIT_BITS = tl.constexpr(2)


@triton.jit
def search_kernel(
    thresholds_ptr: tl.tensor,
    plans_ptr: tl.tensor,
    candidates_ptr: tl.tensor,
    collected_ptr: tl.tensor,
    logits_ptr: tl.tensor,
    temperature_ptr: tl.tensor,
    top_k_ptr: tl.tensor,
    top_p_ptr: tl.tensor,
    min_p_ptr: tl.tensor,
    logits_stride: tl.tensor,
    vocab: tl.tensor,
    ROOM: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    """The threshold of a row that has something to search, from its candidates.

    A row with more candidates than ROOM (very many equal logits, as a rule) is searched whole.
    """
    row = tl.program_id(0).to(tl.int64)
    plan_ptr = plans_ptr + row * PLAN
    if tl.load(plan_ptr + STATE) == DONE:
        return
    top, needed = tl.load(plan_ptr + TOP), tl.load(plan_ptr + NEEDED)
    low, above = tl.load(plan_ptr + LOW), tl.load(plan_ptr + ABOVE)
    source_ptr, size = candidates_ptr + row * ROOM, tl.load(collected_ptr + row)
    if size > ROOM:
        source_ptr, size = logits_ptr + row * logits_stride, vocab
        low, above = tl.load(plan_ptr + FLOOR), tl.full([], 0.0, tl.float32)
    scale = scale_of(tl.load(temperature_ptr + row))
    top_k, top_p = tl.load(top_k_ptr + row), tl.load(top_p_ptr + row)
    counts = (top_k > 0) & (top_k < vocab)
    if counts:
        ids = (needed - above).to(tl.int64)
        low = _search(source_ptr, size, low, top, scale, ids, False, TILE)
    if top_p < 1.0:
        if counts | (tl.load(min_p_ptr + row) > 0.0):
            left, _, _ = _reach(source_ptr, size, low, low, low, top, scale, True, TILE)
            mass = (left.to(tl.float64) * top_p.to(tl.float64)).to(tl.int64)
        else:
            mass = ((needed - above) * UNIT).to(tl.int64)
        low = _search(source_ptr, size, low, top, scale, mass, True, TILE)
    tl.store(thresholds_ptr + row, low)


@triton.jit
def _search(
    source_ptr: tl.tensor,
    size: tl.tensor,
    low: tl.tensor,
    top: tl.tensor,
    scale: tl.tensor,
    needed: tl.tensor,
    MASS: tl.constexpr,
    TILE: tl.constexpr,
) -> tl.tensor:
    """The largest value in low..top that `needed` ids, or units of mass (MASS), reach; or low."""
    base = _key(low)
    span = _key(top) - base
    found = tl.full([], 0, tl.uint32)
    shift = tl.full([], 32 - DIGIT_BITS, tl.uint32)
    for _ in range(32 // DIGIT_BITS):
        if (span >> shift) > 0:
            unit = tl.full([], 1, tl.uint32) << shift
            first = _value(base, found + unit, span)
            second = _value(base, found + 2 * unit, span)
            third = _value(base, found + 3 * unit, span)
            a, b, c = _reach(source_ptr, size, first, second, third, top, scale, MASS, TILE)
            digit = (a >= needed).to(tl.uint32)
            digit += (b >= needed).to(tl.uint32) + (c >= needed).to(tl.uint32)
            found += digit * unit
        shift -= DIGIT_BITS
    return tl.where(found > 0, _value(base, found, span), low)


@triton.jit
def _key(x: tl.tensor) -> tl.tensor:
    """float32 -> uint32 in the same order; both zeros have one key."""
    bits = (x + 0.0).to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return ordered.to(tl.uint32, bitcast=True) ^ 0x80000000


@triton.jit
def _value(base: tl.tensor, offset: tl.tensor, span: tl.tensor) -> tl.tensor:
    """The float whose key is base + offset; past the span, one that nothing reaches."""
    ordered = ((base + tl.minimum(offset, span)) ^ 0x80000000).to(tl.int32, bitcast=True)
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return tl.where(offset > span, float("inf"), bits.to(tl.float32, bitcast=True))


@triton.jit
def _reach(
    source_ptr: tl.tensor,
    size: tl.tensor,
    first: tl.tensor,
    second: tl.tensor,
    third: tl.tensor,
    top: tl.tensor,
    scale: tl.tensor,
    MASS: tl.constexpr,
    TILE: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """int64: how many ids, or units of mass, are at or above each of three values."""
    a = tl.zeros([TILE], tl.int64)
    b = tl.zeros([TILE], tl.int64)
    c = tl.zeros([TILE], tl.int64)
    for start in range(0, size, TILE):
        at = start + tl.arange(0, TILE)
        x = tl.load(source_ptr + at, mask=at < size, other=float("-inf")).to(tl.float32)
        weight = tl.full([TILE], 1, tl.int64)
        if MASS:
            weight = (tl.exp2((x - top) * scale) * UNIT).to(tl.int64)
        inside = at < size
        a += tl.where(inside & (x >= first), weight, 0)
        b += tl.where(inside & (x >= second), weight, 0)
        c += tl.where(inside & (x >= third), weight, 0)
    return tl.sum(a, axis=0), tl.sum(b, axis=0), tl.sum(c, axis=0)
