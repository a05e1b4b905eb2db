"""Triton bodies of drawing in two steps: statistics of every chunk, then the pick.

A chunk is CHUNK neighbouring ids. One read of the logits brings each chunk's maximum and mass;
`pick_kernel` draws a chunk by its mass and an id inside it, as `reference_sampling._draw` does.
A mass is relative to its chunk's maximum, so no temperature overflows it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from octavo.kernels import reference_sampling

CHUNK = tl.constexpr(reference_sampling.CHUNK)
INVALID_TOKEN = tl.constexpr(reference_sampling.INVALID_TOKEN)
LOG2_E = tl.constexpr(reference_sampling.LOG2_E)
OF_IDS = tl.constexpr(reference_sampling.OF_IDS)
OF_CHUNKS = tl.constexpr(reference_sampling.OF_CHUNKS)
MAX_INT = tl.constexpr(2**31 - 1)
MAX_FLOAT = tl.constexpr(3.4028234663852886e38)
TINY = tl.constexpr(2.0**-126)


@triton.jit
def scale_of(temperature: tl.tensor) -> tl.tensor:
    """What turns a difference of logits into a log weight to the base 2; never infinite."""
    divisor = tl.where(temperature > 0, temperature, 1.0)
    return tl.minimum(tl.div_rn(LOG2_E + divisor * 0.0, divisor), MAX_FLOAT)


@triton.jit
def finite(values: tl.tensor) -> tl.tensor:
    """Infinities as 0: a reference point that keeps inf - inf out."""
    return tl.where(tl.abs(values) < float("inf"), values, 0.0)


@triton.jit
def load_chunks(
    row_ptr: tl.tensor, chunks: tl.tensor, wanted: tl.tensor, vocab: tl.tensor
) -> tl.tensor:
    """float32[chunks, CHUNK]: -inf in chunks that are not wanted (never read) and past the end."""
    at = chunks[:, None] * CHUNK + tl.arange(0, CHUNK)[None, :]
    mask = wanted[:, None] & (at < vocab)
    return tl.load(row_ptr + at, mask=mask, other=float("-inf")).to(tl.float32)


@triton.jit
def chunk_kernel(
    maxima_ptr: tl.tensor,
    sums_ptr: tl.tensor,
    logits_ptr: tl.tensor,
    temperature_ptr: tl.tensor,
    logits_stride: tl.tensor,
    vocab: tl.tensor,
    num_chunks: tl.tensor,
    GROUP: tl.constexpr,
) -> None:
    """Maximum and mass of GROUP chunks of a row; the mass is NaN where a logit is."""
    row = tl.program_id(1).to(tl.int64)
    chunks = tl.program_id(0) * GROUP + tl.arange(0, GROUP)
    inside = chunks < num_chunks
    x = load_chunks(logits_ptr + row * logits_stride, chunks, inside, vocab)
    maxima = tl.max(x, axis=1)
    scale = scale_of(tl.load(temperature_ptr + row))
    sums = tl.sum(tl.exp2((x - finite(maxima)[:, None]) * scale), axis=1)
    cells = row * num_chunks + chunks
    tl.store(maxima_ptr + cells, maxima, mask=inside)
    tl.store(sums_ptr + cells, sums, mask=inside)


@triton.jit
def kept_kernel(
    sums_ptr: tl.tensor,
    maxima_ptr: tl.tensor,
    thresholds_ptr: tl.tensor,
    logits_ptr: tl.tensor,
    temperature_ptr: tl.tensor,
    logits_stride: tl.tensor,
    vocab: tl.tensor,
    num_chunks: tl.tensor,
    GROUP: tl.constexpr,
) -> None:
    """The masses again, of what reaches the row's threshold; -inf: the row keeps everything."""
    row = tl.program_id(1).to(tl.int64)
    threshold = tl.load(thresholds_ptr + row)
    if threshold == float("-inf"):
        return
    chunks = tl.program_id(0) * GROUP + tl.arange(0, GROUP)
    inside = chunks < num_chunks
    cells = row * num_chunks + chunks
    maxima = tl.load(maxima_ptr + cells, mask=inside, other=float("-inf"))
    sums = tl.zeros([GROUP], tl.float32)
    if tl.max(maxima, axis=0) >= threshold:
        x = load_chunks(logits_ptr + row * logits_stride, chunks, maxima >= threshold, vocab)
        scale = scale_of(tl.load(temperature_ptr + row))
        weights = tl.exp2((x - finite(maxima)[:, None]) * scale)
        sums = tl.sum(tl.where(x >= threshold, weights, 0.0), axis=1)
    tl.store(sums_ptr + cells, sums, mask=inside)


@triton.jit
def pick_kernel(
    ids_ptr: tl.tensor,
    maxima_ptr: tl.tensor,
    sums_ptr: tl.tensor,
    thresholds_ptr: tl.tensor,
    logits_ptr: tl.tensor,
    temperature_ptr: tl.tensor,
    seeds_ptr: tl.tensor,
    positions_ptr: tl.tensor,
    logits_stride: tl.tensor,
    vocab: tl.tensor,
    num_chunks: tl.tensor,
    CHUNKS_PAD: tl.constexpr,
    RANDOM: tl.constexpr,
    FILTERED: tl.constexpr,
) -> None:
    row, chunk = tl.program_id(0).to(tl.int64), tl.arange(0, CHUNKS_PAD)
    cells, inside = row * num_chunks + chunk, chunk < num_chunks
    maxima = tl.load(maxima_ptr + cells, mask=inside, other=float("-inf"))
    sums = tl.load(sums_ptr + cells, mask=inside, other=0.0)
    temperature, threshold = 0.0, float("-inf")
    if RANDOM:
        temperature = tl.load(temperature_ptr + row)
    if FILTERED:
        threshold = tl.load(thresholds_ptr + row)
    seed, position = tl.load(seeds_ptr + row), tl.load(positions_ptr + row)
    top = tl.max(maxima, axis=0)
    weights = maxima
    if temperature > 0:
        scale = scale_of(temperature)
        weights = (maxima - finite(top)) * scale
        weights += tl.where(sums > 0, tl.log2(tl.maximum(sums, TINY)), float("-inf"))
        weights += _noise(chunk, position, seed, OF_CHUNKS)
    # A row without sound numbers may have no best chunk: stay inside the row whatever comes out.
    best = tl.minimum(_lowest_of_best(weights, chunk, inside), num_chunks - 1)
    ids = best * CHUNK + tl.arange(0, CHUNK)
    row_ptr = logits_ptr + row * logits_stride
    x = tl.load(row_ptr + ids, mask=ids < vocab, other=float("-inf")).to(tl.float32)
    if temperature > 0:
        scale = scale_of(temperature)
        noise = _noise(ids, position, seed, OF_IDS)
        noisy = (x - finite(tl.max(x, axis=0))) * scale + noise
        x = tl.where(x >= threshold, noisy, float("-inf"))
    # A maximum may pass over NaN, a mass does not.
    has_nan = tl.max((sums != sums).to(tl.int32), axis=0) > 0
    broken = has_nan | (tl.abs(top) == float("inf"))
    chosen = tl.where(broken, INVALID_TOKEN, _lowest_of_best(x, ids, ids < vocab))
    tl.store(ids_ptr + row, chosen)


@triton.jit
def _lowest_of_best(values: tl.tensor, index: tl.tensor, inside: tl.tensor) -> tl.tensor:
    best = tl.max(values, axis=0)
    return tl.min(tl.where((values == best) & inside, index, MAX_INT), axis=0)


@triton.jit
def _noise(
    index: tl.tensor, position: tl.tensor, seed: tl.tensor, DOMAIN: tl.constexpr
) -> tl.tensor:
    return -tl.log2(-tl.log2(uniforms(index, position, seed, DOMAIN)))


@triton.jit
def uniforms(
    index: tl.tensor, position: tl.tensor, seed: tl.tensor, DOMAIN: tl.constexpr
) -> tl.tensor:
    """In (0, 1): first word of Philox-4x32-10, key `seed`, counter (index, position, DOMAIN, 0)."""
    zero = index * 0
    key = seed.to(tl.uint64, bitcast=True)
    word, _, _, _ = tl.philox(key, index, zero + position, zero + DOMAIN, zero)
    return ((word >> 9).to(tl.float32) + 0.5) * (1.0 / 8388608.0)
