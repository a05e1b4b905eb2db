"""Sampling without a sort and without a wait: checks and launches.

Two reads of a row at most where no filter is on: its chunks' statistics, then the winning chunk.
Filters add a search for the row's threshold (`sampling_filters`, `sampling_search`) and the
masses of what is left. What is launched depends on the shape, `random` and `filtered` alone, so a
CUDA graph can hold it; a row that needs less leaves its programs at once.
"""

from __future__ import annotations

import torch
import triton

from octavo.kernels.sampling_filters import PIVOTS, PLAN, collect_kernel, count_kernel, plan_kernel
from octavo.kernels.sampling_search import search_kernel
from octavo.kernels.sampling_tiles import CHUNK, chunk_kernel, kept_kernel, pick_kernel

GROUP = 4
"""Chunks a program reads at once: 4096 logits keep 128 threads' loads in flight."""
NARROWINGS = 2
ROOM = 8192
"""Candidates a row can have before it is searched whole."""
SEARCH_TILE = 2048
COLUMNS = {
    "temperature": torch.float32,
    "top_k": torch.int32,
    "top_p": torch.float32,
    "min_p": torch.float32,
    "seeds": torch.int64,
    "positions": torch.int32,
}


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
    """logits [n, V] of any float dtype -> int32[n]: one id a row.

    Per row: temperature, top_p, min_p float32[n]; top_k, positions int32[n]; seeds int64[n].
    A row of temperature 0 takes its most likely id (the lowest of equals). Others draw a chunk of
    ids, then an id inside it, each as the Gumbel-max of its log mass; the noise depends on (seed,
    position, id or chunk) only and is that of `reference_sampling.uniforms`. Filters in vLLM's
    order: min_p, top_k (0: off), top_p on what is left; ties at a threshold stay. `random` False:
    every row is greedy; `filtered` False: no row has a filter. A row with a NaN or +inf, or with
    nothing above -inf, gives INVALID_TOKEN; a single -inf is what bans and masks write, and is
    never drawn. Raises ValueError on shapes that do not fit.
    """
    if logits.dim() != 2 or logits.stride(1) != 1 or logits.shape[1] == 0:
        raise ValueError(f"logits {tuple(logits.shape)} must be [n, V] with contiguous rows.")
    num_rows, vocab = logits.shape
    columns = (temperature, top_k, top_p, min_p, seeds, positions)
    for (name, dtype), column in zip(COLUMNS.items(), columns, strict=True):
        if column.shape != (num_rows,) or column.dtype != dtype or not column.is_contiguous():
            raise ValueError(f"{name} must be {dtype}, one entry for each of {num_rows} rows.")
    ids = torch.empty(num_rows, dtype=torch.int32, device=logits.device)
    if num_rows == 0:
        return ids
    maxima, sums = _chunks(logits, temperature)
    thresholds = maxima
    if random and filtered:
        thresholds = _thresholds(logits, temperature, top_k, top_p, min_p, maxima, sums)
        _keep(sums, maxima, thresholds, logits, temperature)
    num_chunks = maxima.shape[1]
    pick_kernel[(num_rows,)](
        ids,
        maxima,
        sums,
        thresholds,
        logits,
        temperature,
        seeds,
        positions,
        logits.stride(0),
        vocab,
        num_chunks,
        CHUNKS_PAD=triton.next_power_of_2(num_chunks),
        RANDOM=random,
        FILTERED=random and filtered,
        num_warps=4,
    )
    return ids


def _chunks(logits: torch.Tensor, temperature: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float32[n, chunks] twice: each chunk's largest logit, and its mass relative to that."""
    num_rows, vocab = logits.shape
    num_chunks = triton.cdiv(vocab, CHUNK.value)
    # Two allocations: a part of one may be aligned otherwise, which compiles the kernels anew.
    maxima = logits.new_empty((num_rows, num_chunks), dtype=torch.float32)
    sums = torch.empty_like(maxima)
    chunk_kernel[(triton.cdiv(num_chunks, GROUP), num_rows)](
        maxima,
        sums,
        logits,
        temperature,
        logits.stride(0),
        vocab,
        num_chunks,
        GROUP=GROUP,
        num_warps=4,
    )
    return maxima, sums


def _thresholds(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    maxima: torch.Tensor,
    sums: torch.Tensor,
) -> torch.Tensor:
    """float32[n]: each row's smallest kept logit, -inf where it keeps all."""
    num_rows, vocab = logits.shape
    plans, thresholds, collected = _plan(temperature, top_k, top_p, min_p, maxima, sums, vocab)
    pivots, reach = _narrow(plans, maxima, logits, temperature, top_k)
    num_groups = reach.shape[1]
    candidates = logits.new_empty(num_rows, ROOM)
    collect_kernel[(num_groups, num_rows)](
        candidates,
        collected,
        plans,
        pivots,
        reach,
        maxima,
        logits,
        top_k,
        top_p,
        logits.stride(0),
        vocab,
        maxima.shape[1],
        ROOM=ROOM,
        GROUP=GROUP,
        GROUPS_PAD=triton.next_power_of_2(num_groups),
        num_warps=4,
    )
    search_kernel[(num_rows,)](
        thresholds,
        plans,
        candidates,
        collected,
        logits,
        temperature,
        top_k,
        top_p,
        min_p,
        logits.stride(0),
        vocab,
        ROOM=ROOM,
        TILE=SEARCH_TILE,
        num_warps=8,
    )
    return thresholds


def _plan(
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    maxima: torch.Tensor,
    sums: torch.Tensor,
    vocab: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Plans float32[n, PLAN], the thresholds float32[n] known so far, counters int32[n] at 0."""
    num_rows, num_chunks = maxima.shape
    plans = maxima.new_empty(num_rows, PLAN.value)
    thresholds = maxima.new_empty(num_rows)
    collected = torch.empty(num_rows, dtype=torch.int32, device=maxima.device)
    plan_kernel[(num_rows,)](
        plans,
        thresholds,
        collected,
        maxima,
        sums,
        temperature,
        top_k,
        top_p,
        min_p,
        vocab,
        num_chunks,
        CHUNKS_PAD=triton.next_power_of_2(num_chunks),
        num_warps=8,
    )
    return plans, thresholds, collected


def _narrow(
    plans: torch.Tensor,
    maxima: torch.Tensor,
    logits: torch.Tensor,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The last pivots float32[n, PIVOTS] and what reaches them in each group of chunks."""
    num_rows, num_chunks = maxima.shape
    num_groups = triton.cdiv(num_chunks, GROUP)
    pivots = maxima.new_empty((NARROWINGS, num_rows, PIVOTS.value))
    reach = maxima.new_empty((NARROWINGS, num_rows, num_groups, PIVOTS.value))
    for step in range(NARROWINGS):
        earlier = max(step - 1, 0)
        count_kernel[(num_groups, num_rows)](
            pivots[step],
            reach[step],
            pivots[earlier],
            reach[earlier],
            plans,
            maxima,
            logits,
            temperature,
            top_k,
            logits.stride(0),
            logits.shape[1],
            num_chunks,
            GROUP=GROUP,
            GROUPS_PAD=triton.next_power_of_2(num_groups),
            FIRST=step == 0,
            num_warps=4,
        )
    return pivots[-1], reach[-1]


def _keep(
    sums: torch.Tensor,
    maxima: torch.Tensor,
    thresholds: torch.Tensor,
    logits: torch.Tensor,
    temperature: torch.Tensor,
) -> None:
    """Take what is below its row's threshold out of `sums`."""
    num_rows, num_chunks = maxima.shape
    kept_kernel[(triton.cdiv(num_chunks, GROUP), num_rows)](
        sums,
        maxima,
        thresholds,
        logits,
        temperature,
        logits.stride(0),
        logits.shape[1],
        num_chunks,
        GROUP=GROUP,
        num_warps=4,
    )
