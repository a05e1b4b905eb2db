"""Triton bodies that find each row's threshold: the lowest logit that its filters keep.

`plan_kernel` bounds the threshold from below by the maxima of the row's chunks: k chunks reach
the k-th largest maximum, so k ids do. Few more ids reach it, as a rule, and `collect_kernel`
copies them out. Where no bound is found (top_k above the number of chunks, top_p on a flat row)
`count_kernel` first narrows a bracket around the threshold, by what reaches each of PIVOTS
values: more ids than a register file holds are never searched, only counted. The same bracket
holds the answer whether it counts ids (top_k) or mass (top_p).
"""

from __future__ import annotations

import triton
import triton.language as tl

from octavo.kernels.sampling_tiles import finite, load_chunks, scale_of

PIVOTS = tl.constexpr(16)
FIRST_GAP = tl.constexpr(-2.0)
GAP_GROWTH = tl.constexpr(0.6)
LAST_GAP = tl.constexpr(64.0)

# What a row's search knows, as float32 in `plans` [n, PLAN].
PLAN = tl.constexpr(8)
STATE = tl.constexpr(0)
TOP = tl.constexpr(1)
FLOOR = tl.constexpr(2)
LOW = tl.constexpr(3)
ABOVE = tl.constexpr(4)
NEEDED = tl.constexpr(5)

# The states: threshold known, bracket known, bracket to be narrowed.
DONE = tl.constexpr(0.0)
COLLECT = tl.constexpr(1.0)
NARROW = tl.constexpr(2.0)


@triton.jit
def plan_kernel(
    plans_ptr: tl.tensor,
    thresholds_ptr: tl.tensor,
    collected_ptr: tl.tensor,
    maxima_ptr: tl.tensor,
    sums_ptr: tl.tensor,
    temperature_ptr: tl.tensor,
    top_k_ptr: tl.tensor,
    top_p_ptr: tl.tensor,
    min_p_ptr: tl.tensor,
    vocab: tl.tensor,
    num_chunks: tl.tensor,
    CHUNKS_PAD: tl.constexpr,
) -> None:
    """A row's plan from the statistics of its chunks; its threshold, where nothing is to search."""
    row, chunk = tl.program_id(0).to(tl.int64), tl.arange(0, CHUNKS_PAD)
    cells, inside = row * num_chunks + chunk, chunk < num_chunks
    maxima = tl.load(maxima_ptr + cells, mask=inside, other=float("-inf"))
    sums = tl.load(sums_ptr + cells, mask=inside, other=0.0)
    temperature, top_k = tl.load(temperature_ptr + row), tl.load(top_k_ptr + row)
    top_p, min_p = tl.load(top_p_ptr + row), tl.load(min_p_ptr + row)
    top = tl.max(maxima, axis=0)
    weights = tl.exp2((maxima - finite(top)) * scale_of(temperature))
    total = tl.sum(sums * weights, axis=0)
    # Of a row without sound numbers nothing is drawn.
    usable = (temperature > 0) & (tl.abs(top) < float("inf")) & (total == total)
    counts = (top_k > 0) & (top_k < vocab)
    floor = tl.full([], float("-inf"), tl.float32)
    if min_p > 0.0:
        floor = top + temperature * tl.log(min_p)
    needed = tl.where(counts, top_k.to(tl.float32), top_p * total)
    bound = _bound(maxima, tl.where(counts, 1.0, weights), needed)
    # What min_p leaves has a mass that only the ids at or above its floor can tell.
    bounded = counts | (min_p <= 0.0) & (top_p < 1.0)
    low = tl.where(bounded, tl.maximum(floor, bound), floor)
    low = tl.where(usable, tl.minimum(low, finite(top)), float("-inf"))
    searching = usable & (counts | (top_p < 1.0)) & (low < top)
    state = tl.where(low > float("-inf"), COLLECT, NARROW)
    plan_ptr = plans_ptr + row * PLAN
    tl.store(plan_ptr + STATE, tl.where(searching, state, DONE))
    tl.store(plan_ptr + TOP, top)
    tl.store(plan_ptr + FLOOR, floor)
    tl.store(plan_ptr + LOW, low)
    tl.store(plan_ptr + ABOVE, 0.0)
    tl.store(plan_ptr + NEEDED, needed)
    tl.store(thresholds_ptr + row, low)
    tl.store(collected_ptr + row, 0)


@triton.jit
def _bound(maxima: tl.tensor, weights: tl.tensor, needed: tl.tensor) -> tl.tensor:
    """The largest of the maxima that `needed` weight of them reaches, -inf without one."""
    reaches = maxima[None, :] >= maxima[:, None]
    reach = tl.sum(tl.where(reaches, weights[None, :], 0.0), axis=1)
    return tl.max(tl.where(reach >= needed, maxima, float("-inf")), axis=0)


@triton.jit
def count_kernel(
    pivots_ptr: tl.tensor,
    reach_ptr: tl.tensor,
    earlier_pivots_ptr: tl.tensor,
    earlier_reach_ptr: tl.tensor,
    plans_ptr: tl.tensor,
    maxima_ptr: tl.tensor,
    logits_ptr: tl.tensor,
    temperature_ptr: tl.tensor,
    top_k_ptr: tl.tensor,
    logits_stride: tl.tensor,
    vocab: tl.tensor,
    num_chunks: tl.tensor,
    GROUP: tl.constexpr,
    GROUPS_PAD: tl.constexpr,
    FIRST: tl.constexpr,
) -> None:
    """What reaches each of a row's pivots in one group of chunks, for rows without a bracket."""
    group, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    plan_ptr = plans_ptr + row * PLAN
    if tl.load(plan_ptr + STATE) != NARROW:
        return
    top = tl.load(plan_ptr + TOP)
    index = tl.arange(0, PIVOTS)
    if FIRST:
        pivots = _first_pivots(top)
    else:
        low, high, _ = bracket(
            earlier_pivots_ptr, earlier_reach_ptr, row, tl.load(plan_ptr + NEEDED), GROUPS_PAD
        )
        pivots = _inner_pivots(low, high, top)
    chunks = group * GROUP + tl.arange(0, GROUP)
    maxima = tl.load(
        maxima_ptr + row * num_chunks + chunks, mask=chunks < num_chunks, other=float("-inf")
    )
    wanted = maxima >= tl.min(pivots, axis=0)
    reach = tl.zeros([PIVOTS], tl.float32)
    if tl.max(wanted.to(tl.int32), axis=0) > 0:
        x = load_chunks(logits_ptr + row * logits_stride, chunks, wanted, vocab)
        weights = tl.exp2((x - top) * scale_of(tl.load(temperature_ptr + row)))
        top_k = tl.load(top_k_ptr + row)
        weights = tl.where((top_k > 0) & (top_k < vocab), 1.0, weights)
        for number in range(PIVOTS):
            pivot = tl.sum(tl.where(index == number, pivots, 0.0), axis=0)
            found = tl.sum(tl.where(x >= pivot, weights, 0.0))
            reach = tl.where(index == number, found, reach)
    tl.store(pivots_ptr + row * PIVOTS + index, pivots)
    tl.store(reach_ptr + (row * tl.num_programs(0) + group) * PIVOTS + index, reach)


@triton.jit
def _first_pivots(top: tl.tensor) -> tl.tensor:
    """[PIVOTS] falling values: everything, then ever wider gaps below the maximum, then -inf."""
    index = tl.arange(0, PIVOTS)
    inner = top - tl.exp2((index - 1).to(tl.float32) * GAP_GROWTH + FIRST_GAP)
    inner = tl.where(index == 0, float("inf"), inner)
    return tl.where(index == PIVOTS - 1, float("-inf"), inner)


@triton.jit
def _inner_pivots(low: tl.tensor, high: tl.tensor, top: tl.tensor) -> tl.tensor:
    """[PIVOTS] falling values: the bracket's ends, even steps between them."""
    index = tl.arange(0, PIVOTS)
    start = tl.minimum(high, top)
    length = start - tl.maximum(low, start - LAST_GAP)
    inner = start - length * ((index - 1).to(tl.float32) / (PIVOTS - 2))
    inner = tl.where(index == 0, high, inner)
    return tl.where(index == PIVOTS - 1, low, inner)


@triton.jit
def bracket(
    pivots_ptr: tl.tensor,
    reach_ptr: tl.tensor,
    row: tl.tensor,
    needed: tl.tensor,
    GROUPS_PAD: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """(low, high, what reaches high) of the two neighbouring pivots around the threshold.

    The groups' parts are summed in a fixed order, so every program finds the same bracket.
    """
    num_groups = tl.num_programs(0)
    index, group = tl.arange(0, PIVOTS), tl.arange(0, GROUPS_PAD)
    at = (row * num_groups + group[:, None]) * PIVOTS + index[None, :]
    parts = tl.load(reach_ptr + at, mask=group[:, None] < num_groups, other=0.0)
    reach = tl.sum(parts, axis=0)
    pivots = tl.load(pivots_ptr + row * PIVOTS + index)
    first = tl.min(tl.where(reach >= needed, index, PIVOTS - 1), axis=0)
    first = tl.maximum(first, 1)
    low = tl.sum(tl.where(index == first, pivots, 0.0), axis=0)
    high = tl.sum(tl.where(index == first - 1, pivots, 0.0), axis=0)
    return low, high, tl.sum(tl.where(index == first - 1, reach, 0.0), axis=0)


@triton.jit
def collect_kernel(
    candidates_ptr: tl.tensor,
    collected_ptr: tl.tensor,
    plans_ptr: tl.tensor,
    pivots_ptr: tl.tensor,
    reach_ptr: tl.tensor,
    maxima_ptr: tl.tensor,
    logits_ptr: tl.tensor,
    top_k_ptr: tl.tensor,
    top_p_ptr: tl.tensor,
    logits_stride: tl.tensor,
    vocab: tl.tensor,
    num_chunks: tl.tensor,
    ROOM: tl.constexpr,
    GROUP: tl.constexpr,
    GROUPS_PAD: tl.constexpr,
) -> None:
    """Copy the logits inside the row's bracket to `candidates` [n, ROOM], in any order.

    `collected` int32[n] counts them, those without room too.
    """
    group, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    plan_ptr = plans_ptr + row * PLAN
    state = tl.load(plan_ptr + STATE)
    if state == DONE:
        return
    low, high = tl.load(plan_ptr + LOW), tl.full([], float("inf"), tl.float32)
    if state == NARROW:
        low, high, above = bracket(
            pivots_ptr, reach_ptr, row, tl.load(plan_ptr + NEEDED), GROUPS_PAD
        )
        top_k = tl.load(top_k_ptr + row)
        if (top_k > 0) & (top_k < vocab) & (tl.load(top_p_ptr + row) < 1.0):
            # top_p needs the mass of all that top_k leaves.
            high = tl.full([], float("inf"), tl.float32)
            above = tl.full([], 0.0, tl.float32)
        if group == 0:
            tl.store(plan_ptr + LOW, low)
            tl.store(plan_ptr + ABOVE, above)
    chunks = group * GROUP + tl.arange(0, GROUP)
    maxima = tl.load(
        maxima_ptr + row * num_chunks + chunks, mask=chunks < num_chunks, other=float("-inf")
    )
    if tl.max(maxima, axis=0) >= low:
        x = load_chunks(logits_ptr + row * logits_stride, chunks, maxima >= low, vocab)
        chosen = (x >= low) & (x < high) & (x > float("-inf"))
        # Few are chosen: an atomic each costs less than a prefix sum over all that were read.
        counters = collected_ptr + row + tl.zeros(x.shape, tl.int32)
        place = tl.atomic_add(counters, 1, mask=chosen, sem="relaxed")
        values = x.to(candidates_ptr.dtype.element_ty)
        into = candidates_ptr + row * ROOM + place
        tl.store(into, values, mask=chosen & (place < ROOM))
